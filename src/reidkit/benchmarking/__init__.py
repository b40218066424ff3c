"""How fast a package is: batch size by batch size, stage by stage, checked for correctness."""

from __future__ import annotations

from reidkit.benchmarking._benchmark import benchmark as benchmark
from reidkit.benchmarking._json import comparison_as_json as comparison_as_json
from reidkit.benchmarking._json import speed_as_json as speed_as_json
from reidkit.benchmarking._process import Setting as Setting
from reidkit.benchmarking._speed import STAGES as STAGES
from reidkit.benchmarking._speed import BatchRatio as BatchRatio
from reidkit.benchmarking._speed import BatchSpeed as BatchSpeed
from reidkit.benchmarking._speed import Comparison as Comparison
from reidkit.benchmarking._speed import Speed as Speed
from reidkit.benchmarking._speed import Spread as Spread
from reidkit.benchmarking._speed import compare as compare
