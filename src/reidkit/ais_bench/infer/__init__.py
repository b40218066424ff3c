"""The tool's Python interface under its own name: `reidkit.ais_bench.infer.interface`."""

from __future__ import annotations
