"""Two networks from a checkpoint to certificates: what `reidkit deploy` finds on this machine.

A drawn data set with more than 500 queries and one deployment for each target and precision. The
demonstration's network has learnt to tell drawn people apart: its scores say what compiling costs.
ResNet-50 is untrained (no weights of others may be committed): its speed and its vectors count,
not its scores, and its nearest neighbours are close to arbitrary, so that Rank-1 may move by a
whole point. The record holds what each certificate says: scores, agreement, layers left in float,
speed with the engine alone and end to end.

Run it by itself (ResNet-50 takes a quarter of an hour; engines.py has all batch sizes): the record
is benchmarks/records/deployments.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from machine import describe_machine
from reidkit import demo_model, disk, networks
from reidkit.certifying import Check, Limits, certificate_as_json
from reidkit.compiling import Target
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.deploying import deploy, export_once
from reidkit.errors import ReidkitError
from reidkit.package import Package
from reidkit.records import Dataset
from reidkit.training import read_recipe

RECORD = Path(__file__).parent / "records" / "deployments.json"
LIMITS = Limits(drop_rank1=1.0)
BATCHES = (1, 8, 32)
WAYS = (
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
    ("torch", "fp32"),
)


def main() -> None:
    """Deploy in every way and write the record."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--people", type=int, default=130)
    arguments.add_argument("--seconds", type=float, default=1.0)
    arguments.add_argument("--keep", type=Path, help="work here, and keep it")
    arguments.add_argument("--networks", default=",".join(NETWORKS), help="names, with commas")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "data").exists():
            draw_dataset(folder / "data", people=options.people, cameras=6)
        dataset = load_dataset("market1501", folder / "data")
        for network in options.networks.split(","):
            package = NETWORKS[network](folder / network)
            results = deploy_all(package, dataset, folder / network, options.seconds)
            record = disk.read_json(RECORD) if RECORD.exists() else {}
            record[network] = {"machine": describe_machine(), "results": results}
            disk.write_json(RECORD, record)


def export_demonstration(folder: Path) -> Package:
    """Make the package of the demonstration's network."""
    contract = read_recipe(demo_model.RECIPE).contract
    return export_once(demo_model.CHECKPOINT, folder, contract=contract)


def export_resnet50(folder: Path) -> Package:
    """Make the package of an untrained ResNet-50."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "resnet50.safetensors"
    save_file(networks.initial_tensors(networks.Network("resnet50")), checkpoint)
    return export_once(checkpoint, folder)


NETWORKS = {"demonstration": export_demonstration, "resnet50": export_resnet50}


def deploy_all(package: Package, dataset: Dataset, out: Path, seconds: float) -> dict[str, Any]:
    """Deploy a package in every way: way -> summary of its certificate, or the error."""
    results: dict[str, Any] = {}
    for target, precision in WAYS:
        way = f"{target}-{precision}"
        check = Check(LIMITS, BATCHES, seconds=seconds)
        try:
            done = deploy(package, dataset, out, target=Target(target, precision), check=check)
            results[way] = summarise(certificate_as_json(done.certificate))
        except ReidkitError as error:
            results[way] = {"error": str(error)}
        print(f"{way}: {results[way]}", flush=True)
    return results


def summarise(certificate: dict[str, Any]) -> dict[str, Any]:
    """Take from a certificate what a record needs."""
    sides = {}
    for role in ("source", "compiled"):
        side = certificate[role]
        speed = side["speed"]
        sides[role] = {
            "scores": side["scores"],
            "engine_rate": {str(s["batch"]): s["engine_rate"] for s in speed["batches"]},
            "end_to_end_rate": {str(s["batch"]): s["end_to_end_rate"] for s in speed["batches"]},
            "best_batch": speed["best_batch"],
            "cold_start": speed["cold_start"],
            "peak_bytes": speed["peak_bytes"],
            "size_bytes": speed["size_bytes"],
        }
    agreement = {k: v for k, v in certificate["agreement"].items() if k != "histogram"}
    best = {role: max(side["engine_rate"].values()) for role, side in sides.items()}
    return {
        "verdict": certificate["verdict"],
        "gates": certificate["gates"],
        "warnings": certificate["warnings"],
        "float_layers": certificate["compiled"]["float_layers"],
        "speed_over_source": best["compiled"] / best["source"],
        "map_drop_points": 100
        * (sides["source"]["scores"]["mAP"] - sides["compiled"]["scores"]["mAP"]),
        "agreement": agreement,
        **sides,
    }


if __name__ == "__main__":
    main()
