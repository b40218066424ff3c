"""`reidkit inspect`: what a checkpoint is."""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _options


@click.command("inspect", short_help="Show what a checkpoint is.")
@click.argument("checkpoint", type=_options.FILE)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@_options.common
def command(checkpoint: Path, tensors: bool, as_json: bool) -> None:
    """Show what a CHECKPOINT is: its format, its network, whether it is complete."""
    from reidkit import checkpoints, networks
    from reidkit.cli import _output
    from reidkit.errors import IncompatibleCheckpointError

    read = checkpoints.read(checkpoint)
    facts: dict[str, object] = {
        "file": str(checkpoint),
        "sha256": read.sha256,
        "container": read.container,
        "form": read.form,
        "tensors": len(read.tensors),
        "parameters": sum(array.size for array in read.tensors.values()),
    }
    try:
        network = networks.recognise(read.tensors)
        facts |= {
            "architecture": network.architecture,
            "bnneck": network.bnneck,
            "classes": network.classes,
            "embedding_size": network.embedding_size,
            "complete": True,
        }
    except IncompatibleCheckpointError as error:
        facts |= {"architecture": None, "complete": False, "problem": str(error)}
    listed = {name: [str(a.dtype), list(a.shape)] for name, a in read.tensors.items()}
    if as_json:
        _output.print_json(facts | ({"tensor_list": listed} if tensors else {}))
        return
    for name, fact in facts.items():
        click.echo(f"{name.replace('_', ' '):<16} {'none' if fact is None else fact}")
    if tensors:
        for name, (dtype, shape) in listed.items():
            click.echo(f"  {name}  {dtype} {shape}")
