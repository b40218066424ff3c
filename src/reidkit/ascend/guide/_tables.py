"""The guide's two closing tables: accuracy of source and device, throughput by batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reidkit.records import Scores

RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch size: what the guide's tool calls throughput, and what a user gets.

    Fields:
        batch: pictures a run.
        throughput: 1000 * batch / mean milliseconds of the engine's own time.
        end_to_end: pictures a second from picture file to vector, all work included.
        pictures: so many were measured.
        difference: the largest difference of a value from the source network's vectors of the
            first pictures.
    """

    batch: int
    throughput: float
    end_to_end: float
    pictures: int
    difference: float


@dataclass(frozen=True, slots=True, eq=False)
class GuideResult:
    """What following the guide gave.

    Fields:
        model: the network's name.
        source: scores of the network as it was exported, in onnxruntime.
        device: scores of the compiled file.
        device_name: what ran the compiled file, as its engine reports it.
        chip: whether that is the chip that the guide is for.
        scored_batch: the batch size that the device's scores were made at.
        rows: one for each batch size.
        way: `streaming`, or `files` for a file a picture.
        seconds: wall-clock seconds of each step.
        bytes_written: bytes of pictures and vectors that were written on the way.
    """

    model: str
    source: Scores
    device: Scores
    device_name: str
    chip: bool
    scored_batch: int
    rows: tuple[BatchRow, ...]
    way: str
    seconds: Mapping[str, float]
    bytes_written: int

    @property
    def best(self) -> BatchRow:
        """The batch size with the highest throughput."""
        return max(self.rows, key=lambda row: row.throughput)

    def describe_device(self) -> str:
        """Say plainly what the device column is."""
        if self.chip:
            return f"the chip ({self.device_name})"
        return f"this machine ({self.device_name}): no chip was found"


def write_tables(result: GuideResult) -> str:
    """Give both tables as Markdown."""
    return f"{_accuracy(result)}\n\n{_throughput(result)}\n"


def result_as_json(result: GuideResult) -> dict[str, object]:
    """Give the object of guide.json; accuracies are fractions, rates pictures a second."""
    return {
        "format": 1,
        "model": result.model,
        "way": result.way,
        "device": result.device_name,
        "chip": result.chip,
        "accuracy": {
            "source": _figures(result.source),
            "device": _figures(result.device),
            "scored_batch": result.scored_batch,
            "queries": result.device.queries,
            "dropped_queries": result.device.dropped.total,
            "gallery": result.device.gallery,
        },
        "throughput": [
            {
                "batch": row.batch,
                "throughput": row.throughput,
                "end_to_end": row.end_to_end,
                "pictures": row.pictures,
                "largest_difference": row.difference,
            }
            for row in result.rows
        ],
        "best_batch": result.best.batch,
        "seconds": dict(result.seconds),
        "bytes_written": result.bytes_written,
    }


def _figures(scores: Scores) -> dict[str, float]:
    ranks = {f"Rank-{k}": scores.rank(k) for k in RANKS if scores.covers(k)}
    return {"mAP": scores.mAP, **ranks, "mINP": scores.mINP}


def _accuracy(result: GuideResult) -> str:
    source, device = _figures(result.source), _figures(result.device)
    lines = [
        f"| {result.model} | {' | '.join(source)} |",
        f"|---|{'---:|' * len(source)}",
        f"| source (onnxruntime) | {_row(source)} |",
        f"| device, batch {result.scored_batch} | {_row(device)} |",
        "",
        f"The device is {result.describe_device()}. {result.device.queries:,} queries, "
        f"{result.device.gallery:,} gallery pictures; {result.device.dropped.total:,} queries "
        "dropped.",
    ]
    return "\n".join(lines)


def _row(figures: Mapping[str, float]) -> str:
    return " | ".join(f"{100 * value:.1f} %" for value in figures.values())


def _throughput(result: GuideResult) -> str:
    lines = [
        "| batch | throughput, engine alone | end to end | ratio | largest difference |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in result.rows:
        best = " (best)" if row is result.best else ""
        lines.append(
            f"| {row.batch} | {row.throughput:,.1f}{best} | {row.end_to_end:,.1f} "
            f"| {row.end_to_end / row.throughput:.2f} | {row.difference:.1e} |"
        )
    lines += [
        "",
        "Pictures a second: the engine alone, then from picture files to vectors. The difference "
        "is that of any value of a vector from the source network's, over the first pictures.",
    ]
    return "\n".join(lines)
