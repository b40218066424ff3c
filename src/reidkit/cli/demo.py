"""`reidkit demo`: the main job on built-in data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _certificates, _options

if TYPE_CHECKING:
    from reidkit.deploying import Deployment
    from reidkit.package import Package
    from reidkit.records import Dataset

_PEOPLE, _CAMERAS = 40, 4
_PRECISIONS = ("fp32", "int8")
_BATCHES = (1, 8)
_LARGEST_DROP = 2.0
_NOTE = (
    "The network of this demonstration was trained on drawn people alone, and has seen neither "
    "these people nor these cameras. Its scores say nothing about real people. With so few "
    f"queries one more or less is nearly a percentage point: {_LARGEST_DROP:g} may be lost here, "
    "where 0.3 is the default."
)


@click.command("demo", short_help="The main job on built-in data.")
@click.option(
    "-o",
    "--out",
    type=_options.FOLDER,
    default=Path("demo"),
    show_default=True,
    help="Folder of the result; an older demonstration there is replaced.",
)
@_options.common
def command(out: Path, as_json: bool) -> None:
    """Draw people, export a trained network, compile it twice, certify both: no torch.

    OUT/data holds the people; OUT/package the network, with operating points calibrated on the
    people drawn for training: a gallery made from it has verdicts.
    """
    from reidkit import disk
    from reidkit.certifying import certificate_as_json
    from reidkit.cli import _output
    from reidkit.datasets import load_dataset
    from reidkit.datasets.drawn import draw_dataset
    from reidkit.deploying import WORK

    with disk.new_folder(out, marker="report.html", overwrite=True) as folder:
        with _output.progress_bar("drawing people") as progress:
            draw_dataset(folder / "data", people=_PEOPLE, cameras=_CAMERAS, progress=progress)
        package = _export(folder)
        dataset = load_dataset("market1501", folder / "data")
        result = _score_and_calibrate(package, dataset, folder)
        done = _deploy(package, dataset, folder)
        # Its vectors name pictures where they were drawn, in a folder that goes away.
        shutil.rmtree(folder / WORK)
    certificates = [deployment.certificate for deployment in done]
    if as_json:
        certified = [certificate_as_json(certificate) for certificate in certificates]
        report = {"report": str(out / "report.html"), "certificates": certified}
        _output.print_json(result | report)
    else:
        for deployment in done:
            place = out / deployment.folder.name
            _certificates.print_certificate(deployment.certificate, place)
        click.echo(f"{_NOTE}\nReport: {out / 'report.html'}")
    if any(certificate.verdict == "fail" for certificate in certificates):
        raise SystemExit(1)


def _export(folder: Path) -> Package:
    """Make a package of the demonstration's network."""
    from reidkit import demo_model
    from reidkit.deploying import export_once
    from reidkit.training import read_recipe

    contract = read_recipe(demo_model.RECIPE).contract
    return export_once(demo_model.CHECKPOINT, folder, contract=contract)


def _score_and_calibrate(package: Package, dataset: Dataset, folder: Path) -> dict[str, object]:
    """Write the report, the scores and the package's operating points; give the scores."""
    from reidkit import disk, operating, scoring
    from reidkit.cli import _output, _pipeline
    from reidkit.models import load_model

    running = _options.Running()
    with load_model(package) as model:
        query, gallery = _pipeline.embed_sides(model, dataset, running, None)
        train = _pipeline.embed_samples(model, dataset.train, running, None, label="train")
    scores = scoring.evaluate(query, gallery)
    made_by = _output.made_by(query, gallery, model) | {"Note": _NOTE}
    _pipeline.write_report(folder / "report.html", scores, query, gallery, made_by)
    result = _output.scores_as_json(scores) | {"made_by": made_by}
    disk.write_json(folder / "scores.json", result)
    operating.store_operating_points(package.folder, operating.calibrate(train))
    return result


def _deploy(package: Package, dataset: Dataset, folder: Path) -> list[Deployment]:
    """Compile the package in each precision and certify what comes of it."""
    from reidkit.certifying import Check, Limits
    from reidkit.compiling import Target
    from reidkit.deploying import deploy

    check = Check(Limits(_LARGEST_DROP, _LARGEST_DROP), batches=_BATCHES, seconds=0.3)
    done = []
    for precision in _PRECISIONS:
        target = Target("onnxruntime", precision)
        with _certificates.watching() as watch:
            done.append(deploy(package, dataset, folder, target=target, check=check, watch=watch))
    return done
