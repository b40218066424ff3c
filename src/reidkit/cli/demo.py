"""`reidkit demo`: the main job on built-in data."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _options

_PEOPLE, _CAMERAS = 40, 4
_NOTE = (
    "The network of this demonstration is untrained: its weights are random numbers, so its "
    "scores are those of raw colour and texture, not of a person re-identification network."
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
    """Draw people, export a network, score it, and write a report: a minute, no torch."""
    from safetensors.numpy import save_file

    from reidkit import disk, networks, scoring
    from reidkit.cli import _output, _pipeline
    from reidkit.datasets import load_dataset
    from reidkit.datasets.drawn import draw_dataset
    from reidkit.exporting import export_package
    from reidkit.models import load_model

    with disk.new_folder(out, marker="report.html", overwrite=True) as folder:
        with _output.progress_bar("drawing people") as progress:
            draw_dataset(folder / "data", people=_PEOPLE, cameras=_CAMERAS, progress=progress)
        tensors = networks.initial_tensors(networks.Network("resnet18", classes=_PEOPLE))
        save_file(tensors, folder / "checkpoint.safetensors")
        package = export_package(folder / "checkpoint.safetensors", folder / "package")
        dataset = load_dataset("market1501", folder / "data")
        with load_model(package) as model:
            query, gallery = _pipeline.embed_sides(model, dataset, _options.Running(), None)
        scores = scoring.evaluate(query, gallery)
        made_by = _output.made_by(query, gallery, model) | {"Note": _NOTE}
        _pipeline.write_report(folder / "report.html", scores, query, gallery, made_by)
        result = _output.scores_as_json(scores) | {"made_by": made_by}
        disk.write_json(folder / "scores.json", result)
    if as_json:
        _output.print_json(result | {"report": str(out / "report.html")})
        return
    _output.print_scores(scores, f"resnet18 (untrained) on {_PEOPLE} drawn people", ())
    click.echo(f"{_NOTE}\nReport: {out / 'report.html'}")
