"""The guide's compiler and tuner: the real ones where they are installed, else this machine's.

`_options`, `_flags`, `_tables` and `_shapes` read and check what they are told, `_codes` explains
their error codes, `_real` runs the real ones.
"""

from __future__ import annotations

from reidkit.ascend.compiler._aoe import run_aoe as run_aoe
from reidkit.ascend.compiler._atc import run_atc as run_atc
