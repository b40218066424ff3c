"""From a model package to a compiled package for a target.

A compiled package is a model package like any other: it has the same input contract and the same
reference pictures, says what it was compiled from, and is run by the same code. Each target is
one file here with the same two functions, `support` and `build`; a new one is one file and one
line in `_compile.TARGETS`.
"""

from __future__ import annotations

from reidkit.compiling._calibration import CalibrationSet as CalibrationSet
from reidkit.compiling._calibration import calibration_of as calibration_of
from reidkit.compiling._calibration import find_calibration as find_calibration
from reidkit.compiling._calibration import read_calibration as read_calibration
from reidkit.compiling._compile import TARGETS as TARGETS
from reidkit.compiling._compile import compile_package as compile_package
from reidkit.compiling._compile import supported_targets as supported_targets
from reidkit.compiling._targets import PRECISIONS as PRECISIONS
from reidkit.compiling._targets import Job as Job
from reidkit.compiling._targets import Support as Support
from reidkit.compiling._targets import Target as Target
