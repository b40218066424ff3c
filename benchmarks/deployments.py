"""ResNet-50 from a checkpoint to certificates: what `reidkit deploy` finds on this machine.

A drawn data set with more than 500 queries, an untrained ResNet-50 (nothing else may be committed
or downloaded), and one deployment for each target and precision. The record holds what each
certificate says: scores, agreement, layers left in float, speed with the engine alone and end to
end. An untrained network is the harder test of int8: its vectors of two people differ by less
than a trained network's, so rounding weighs more. Its nearest neighbours are close to arbitrary, so
Rank-1 may move by a whole point here; mAP must stay within the usual 0.3.

Run it by itself (it takes a quarter of an hour; engines.py has all batch sizes): the record is
benchmarks/records/deployments.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from machine import describe_machine
from reidkit import disk, networks
from reidkit.certifying import Check, Limits, certificate_as_json
from reidkit.compiling import Target
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.deploying import deploy, export_once
from reidkit.errors import ReidkitError

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
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "resnet50.safetensors"
        save_file(networks.initial_tensors(networks.Network("resnet50")), checkpoint)
        if not (folder / "data").exists():
            draw_dataset(folder / "data", people=options.people, cameras=6)
        dataset = load_dataset("market1501", folder / "data")
        package = export_once(checkpoint, folder / "out")
        results = {}
        for target, precision in WAYS:
            try:
                done = deploy(
                    package,
                    dataset,
                    folder / "out",
                    target=Target(target, precision),
                    check=Check(LIMITS, BATCHES, seconds=options.seconds),
                )
            except ReidkitError as error:
                results[f"{target}-{precision}"] = {"error": str(error)}
                print(f"{target} {precision}: {error}", flush=True)
                continue
            summary = summarise(certificate_as_json(done.certificate))
            results[f"{target}-{precision}"] = summary
            print(f"{target} {precision}: {summary}", flush=True)
    disk.write_json(RECORD, {"machine": describe_machine(), "results": results})


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
