"""`reidkit export`: checkpoint -> model package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _checkpoints, _options

if TYPE_CHECKING:
    from reidkit.configs import Config


@click.command("export", short_help="Checkpoint to model package.")
@click.argument("checkpoint", type=_options.PATH)
@click.argument("out", type=_options.FOLDER)
@click.argument("pairs", nargs=-1, metavar="[KEY VALUE]...")
@_options.configuration(required=False)
@_options.exporting
@_options.overwrite
@_options.common
@click.pass_context
def command(
    context: click.Context,
    /,
    checkpoint: Path,
    out: Path,
    pairs: tuple[str, ...],
    config_file: Path | None,
    overwrite: bool,
    as_json: bool,
    **_network: object,
) -> None:
    """Make the verified model package OUT from a trained CHECKPOINT, without torch.

    CHECKPOINT is a file, or the folder of a run of `reidkit train`: that gives its best checkpoint,
    with architecture, size, mean, std, last stride and neck of its recipe.

    With --config_file, architecture, size, mean, std, last stride and neck come from the strong
    baseline's configuration, changed by the pairs KEY VALUE, such as TEST.NECK_FEAT before.
    """
    from reidkit.cli import _output
    from reidkit.exporting import export_configured_package, export_package
    from reidkit.training import is_run

    if config_file is not None:
        if is_run(checkpoint):
            raise click.UsageError(
                "a run knows its network: leave --config_file out, or pass a checkpoint's file"
            )
        config = _read(context, config_file, pairs)
        package = export_configured_package(config, out, checkpoint=checkpoint, overwrite=overwrite)
        for remark in config.remarks:
            click.echo(f"remark: {remark}", err=True)
    elif pairs:
        raise click.UsageError(f"{pairs[0]!r} changes a configuration: pass --config_file too")
    else:
        chosen = _checkpoints.choose(context)
        package = export_package(
            chosen.checkpoint,
            out,
            architecture=chosen.architecture,
            last_stride=chosen.last_stride,
            contract=chosen.contract,
            overwrite=overwrite,
        )
    _output.print_package(package, as_json=as_json)


def _read(context: click.Context, config_file: Path, pairs: tuple[str, ...]) -> Config:
    """Read the configuration, and refuse options that were given and say something else."""
    from reidkit.configs import read_config

    config = read_config(config_file, pairs)
    contract = config.contract
    said: dict[str, tuple[str, object]] = {
        "architecture": ("MODEL.NAME", config.architecture),
        "last_stride": ("MODEL.LAST_STRIDE", str(config.last_stride)),
        "size": ("INPUT.SIZE_TEST", (contract.height, contract.width)),
    }
    if config.bnneck:
        said["neck_feature"] = ("TEST.NECK_FEAT", contract.neck)
    if "TEST.WEIGHT" in pairs[::2]:
        said["checkpoint"] = ("TEST.WEIGHT", Path(config.weight))
    _checkpoints.refuse_others(context, said, "the configuration", "leave one of them out")
    return config
