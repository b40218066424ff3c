"""The guide's batch inference tool: files in, outputs, a summary and a rate out."""

from __future__ import annotations

from reidkit.ascend.bench._run import run_bench as run_bench
from reidkit.ascend.bench._settings import BenchSettings as BenchSettings
from reidkit.ascend.bench._settings import FileOptions as FileOptions
from reidkit.ascend.bench._settings import Report as Report
from reidkit.ascend.bench._settings import SaveOptions as SaveOptions
from reidkit.ascend.bench._settings import ShapeOptions as ShapeOptions
from reidkit.ascend.bench._settings import TimeOptions as TimeOptions
from reidkit.ascend.bench._settings import check_chip_options as check_chip_options
from reidkit.ascend.bench._summary import BenchResult as BenchResult
