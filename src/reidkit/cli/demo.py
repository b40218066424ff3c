"""`reidkit demo`: the main job on built-in data."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from reidkit.cli import _certificates, _options

_PEOPLE, _CAMERAS = 40, 4
_HEIGHT, _WIDTH = 128, 64
_PRECISIONS = ("fp32", "int8")
_BATCHES = (1, 8)
_LARGEST_DROP = 2.0
_NOTE = (
    "The network of this demonstration is untrained: its weights are random numbers, so its "
    "scores are those of raw colour and texture, not of a person re-identification network. With "
    f"so few queries one more or less is nearly a percentage point: {_LARGEST_DROP:g} may be lost "
    "here, where 0.3 is the default."
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
    """Draw people, export a network, compile it twice, certify both: a minute, no torch."""
    from safetensors.numpy import save_file

    from reidkit import disk, networks, scoring
    from reidkit.certifying import Check, Limits, certificate_as_json
    from reidkit.cli import _output, _pipeline
    from reidkit.compiling import Target
    from reidkit.datasets import load_dataset
    from reidkit.datasets.drawn import draw_dataset
    from reidkit.deploying import WORK, deploy, export_once
    from reidkit.models import load_model
    from reidkit.package import InputSpec

    check = Check(Limits(_LARGEST_DROP, _LARGEST_DROP), batches=_BATCHES, seconds=0.3)
    with disk.new_folder(out, marker="report.html", overwrite=True) as folder:
        with _output.progress_bar("drawing people") as progress:
            draw_dataset(folder / "data", people=_PEOPLE, cameras=_CAMERAS, progress=progress)
        tensors = networks.initial_tensors(networks.Network("resnet18", classes=_PEOPLE))
        save_file(tensors, folder / "checkpoint.safetensors")
        contract = InputSpec(height=_HEIGHT, width=_WIDTH)
        package = export_once(folder / "checkpoint.safetensors", folder, contract=contract)
        dataset = load_dataset("market1501", folder / "data")
        with load_model(package) as model:
            query, gallery = _pipeline.embed_sides(model, dataset, _options.Running(), None)
        scores = scoring.evaluate(query, gallery)
        made_by = _output.made_by(query, gallery, model) | {"Note": _NOTE}
        _pipeline.write_report(folder / "report.html", scores, query, gallery, made_by)
        result = _output.scores_as_json(scores) | {"made_by": made_by}
        disk.write_json(folder / "scores.json", result)
        done = []
        for precision in _PRECISIONS:
            target = Target("onnxruntime", precision)
            with _certificates.watching() as watch:
                done.append(
                    deploy(package, dataset, folder, target=target, check=check, watch=watch)
                )
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
