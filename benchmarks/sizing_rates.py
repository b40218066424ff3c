"""How many pictures a second the committed records give, and whether many take as long as few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

DAY = 86400
FILES, ENGINE, HTTP = "from JPEG files", "the engine alone", "over HTTP"
NETWORKS = {"demonstration": "demonstration 128x64", "resnet50": "resnet50 256x128"}

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rate:
    """Pictures a second of a machine, and the record that says so."""

    network: str
    way: str
    stage: str
    record: str
    processor: str
    date: str
    cores: int
    pictures_per_second: float

    @property
    def per_core_second(self) -> float:
        """Pictures a second of one core, which has an equal share of the machine's."""
        return self.pictures_per_second / self.cores

    def per_core(self) -> dict[str, float]:
        """Give pictures of one core, a second and a day."""
        return {
            "per_core_second": self.per_core_second,
            "per_core_day": self.per_core_second * DAY,
        }

    def is_embedding(self, network: str, way: str) -> bool:
        """Tell whether this is what `embed` does from files with a network in this way."""
        return (self.network, self.way, self.stage) == (network, way, FILES)


def list_rates(records: Figures) -> list[Rate]:
    """List what the records say: each way at its best batch size. A GPU has none but its own."""
    return [
        *_read_pipeline(records["pipeline"]),
        *_read_deployments(records["deployments"]),
        *_read_engines(records["engines"]),
        *_read_batching(records["service"]["parts"]["batching"]),
        *(_read_gpu(records["gpu"]) if "gpu" in records else ()),
    ]


def list_repeats(guide: Figures) -> list[Figures]:
    """Compare the guide's two ways: each batch size over many pictures and over few.

    `ratio` is 1 where the time is in proportion to the pictures.
    """
    few, many = (guide["guide"]["ways"][way]["throughput"] for way in ("streaming", "files"))
    return [
        {
            "batch": one["batch"],
            "few": one["pictures"],
            "many": other["pictures"],
            "ratio": other["end_to_end"] / one["end_to_end"],
        }
        for one, other in zip(few, many, strict=True)
    ]


def _read_pipeline(record: Figures) -> Iterator[Rate]:
    for network, result in record["results"].items():
        rate = result["ways"]["embed"]["pictures_per_second"]
        yield _make(network, "onnxruntime-fp32", FILES, "pipeline", record["machine"], rate)


def _read_deployments(record: Figures) -> Iterator[Rate]:
    for key, network in NETWORKS.items():
        for way, result in record[key]["results"].items():
            if "error" not in result:
                rate = max(result["compiled"]["end_to_end_rate"].values())
                yield _make(network, way, FILES, "deployments", record[key]["machine"], rate)


def _read_engines(record: Figures) -> Iterator[Rate]:
    for way, rates in record["pictures_per_second"].items():
        if way != "peak":
            name, rate = NETWORKS["resnet50"], max(rates.values())
            yield _make(name, way, ENGINE, "engines", record["machine"], rate)


def _read_batching(part: Figures) -> Iterator[Rate]:
    for network, found in part["networks"].items():
        way, machine = "onnxruntime-fp32", part["machine"]
        rate = found["engine"]["from_jpeg_files_per_second"]
        yield _make(network, way, FILES, "service", machine, rate)
        rate = found["ways"]["embed, batched"]["requests_per_second"]
        yield _make(network, way, HTTP, "service", machine, rate)


def _read_gpu(record: Figures) -> Iterator[Rate]:
    """Read the benchmark of a GPU, which counts as the machine's one core."""
    machine = record["machine"] | {"cores": 1, "processor": record["machine"]["gpu"]}
    rate = max(row["copies"] for row in record["pictures_per_second"].values())
    yield _make(NETWORKS["resnet50"], "torch-bf16", "pixels in memory", "gpu", machine, rate)


def _make(network: str, way: str, stage: str, record: str, machine: Figures, rate: float) -> Rate:
    place = (machine["processor"], machine["date"], machine["cores"])
    return Rate(network, way, stage, f"benchmarks/records/{record}.json", *place, rate)
