"""Options for commands that can run on an engine for many machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from reidkit.cli._options import add, gather

if TYPE_CHECKING:
    from reidkit.distributed import Cluster


@dataclass(frozen=True, slots=True)
class Engine:
    """Where a command runs: here, or on a cluster; `engine` is its kind."""

    engine: str | None = None
    address: str | None = None
    actors: int | None = None

    def __post_init__(self) -> None:
        given = [f"--{name}" for name in ("address", "actors") if getattr(self, name) is not None]
        if given and self.engine is None:
            raise click.UsageError(f"{' and '.join(given)}: only together with --engine ray")

    def cluster(self, threads: int | None = None) -> Cluster:
        """Give the cluster that the options mean."""
        from reidkit.distributed import Cluster

        return Cluster(self.address or "auto", self.actors, threads)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add where a command runs; it gets that as one `engine` value."""
    return add(
        gather(command, "engine", Engine),
        click.option(
            "--engine", type=click.Choice(["ray"]), help="Run on a Ray cluster, not in here."
        ),
        click.option(
            "--address",
            metavar="ADDRESS",
            help="Ray's: auto finds the one that runs, local starts one here for this run. [auto]",
        ),
        click.option(
            "--actors",
            type=click.IntRange(1, 100_000),
            help="Models (embed) or tasks (elsewhere) that run at once; by default as many as fit.",
        ),
    )
