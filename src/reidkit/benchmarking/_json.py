"""A benchmark's values as JSON: what `reidkit benchmark --json` prints and certificates hold."""

from __future__ import annotations

import dataclasses

from reidkit.benchmarking._speed import Comparison, Speed


def speed_as_json(speed: Speed) -> dict[str, object]:
    """Give a `Speed` as an object of plain values: its fields by their names.

    `batches` is a list, one object a batch size; in it `engine` and `end_to_end` are objects of
    `median`, `p90`, `p99`, `shortest` and `longest` (seconds a batch) and `count`; `engine_rate`
    and `end_to_end_rate` are pictures a second; `stages` holds seconds a picture under each name
    in `STAGES`; `difference` is a fraction. `cold_start` is in seconds, `peak_bytes` and
    `size_bytes` in bytes.
    """
    fields = {field.name: getattr(speed, field.name) for field in dataclasses.fields(speed)}
    batches = [
        {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
        | {
            "engine": dataclasses.asdict(batch.engine),
            "end_to_end": dataclasses.asdict(batch.end_to_end),
            "stages": dict(batch.stages),
        }
        for batch in speed.batches
    ]
    return fields | {"batches": batches}


def comparison_as_json(comparison: Comparison) -> dict[str, object]:
    """Give a `Comparison` as an object of plain values: its fields by their names."""
    return dataclasses.asdict(comparison) | {
        "batches": [dataclasses.asdict(batch) for batch in comparison.batches]
    }
