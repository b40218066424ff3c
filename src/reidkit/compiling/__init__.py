"""From a model package to a compiled package for a target."""

from __future__ import annotations

from reidkit.compiling._targets import Job as Job
from reidkit.compiling._targets import Support as Support
from reidkit.compiling._targets import Target as Target
