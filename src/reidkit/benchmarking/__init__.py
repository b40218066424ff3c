"""How fast a package is: batch size by batch size, stage by stage, checked for correctness."""

from __future__ import annotations

from reidkit.benchmarking._speed import STAGES as STAGES
from reidkit.benchmarking._speed import BatchSpeed as BatchSpeed
from reidkit.benchmarking._speed import Speed as Speed
from reidkit.benchmarking._speed import Spread as Spread
