"""`reidkit serve`: a gallery over HTTP, with a page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _gallery_options, _options, _ranking

if TYPE_CHECKING:
    from reidkit.serving import ServeSettings

_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


@dataclass(frozen=True, slots=True)
class Serving:
    """How a gallery is served, as the options say; what is `None` is as the library has it."""

    host: str = "127.0.0.1"
    port: int = 8000
    keys: Path | None = None
    no_auth: bool = False
    retain: float | None = None
    memory: int | None = None
    device: str | None = None
    batch: int | None = None
    queue: int | None = None
    wait_ms: float | None = None

    def settings(self, needed: _gallery_options.Needed) -> ServeSettings:
        """Give them as the library takes them."""
        from reidkit.gallery import MEMORY
        from reidkit.serving import BatchLimits, ServeSettings

        wait = None if self.wait_ms is None else self.wait_ms / 1000
        asked = {"batch": self.batch, "queue": self.queue, "wait": wait}
        batch = BatchLimits(**{name: v for name, v in asked.items() if v is not None})  # type: ignore[arg-type]
        return ServeSettings(
            host=self.host,
            port=self.port,
            keys=self.keys,
            no_auth=self.no_auth,
            batch=batch,
            memory=MEMORY if self.memory is None else self.memory,
            device=self.device,
            keep=self.retain,
            quality=needed.quality(),
        )


def _serving(command: Callable[..., None]) -> Callable[..., None]:
    return _options.add(
        _options.gather(command, "serving", Serving),
        click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen."),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=8000,
            show_default=True,
            help="0 takes a free one.",
        ),
        click.option("--keys", type=_options.FILE, help="Keys file; keys.json in the gallery."),
        click.option("--no-auth", is_flag=True, help="Ask for no key; on this machine alone."),
        click.option(
            "--retain",
            type=_gallery_options.duration,
            metavar="AGE",
            help="Erase crops that long after they were enrolled, such as 30d.",
        ),
        click.option(
            "--memory", type=_ranking.memory, metavar="SIZE", help="For vectors, such as 1GiB."
        ),
        click.option("--device", help="Where the model runs; see reidkit embed."),
        click.option("--batch", type=click.IntRange(1, 4096), help="Most pictures a run."),
        click.option("--queue", type=click.IntRange(1), help="Most pictures that may wait."),
        click.option(
            "--wait-ms", type=click.FloatRange(0), help="How long a run waits for more pictures."
        ),
    )


@click.command("serve", short_help="A gallery over HTTP, with a page.")
@click.argument("package", type=_options.PATH)
@click.option("--gallery", "place", required=True, metavar="PLACE", help="The gallery to serve.")
@_serving
@_gallery_options.needed
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def command(package: Path, place: str, serving: Serving, needed: _gallery_options.Needed) -> None:
    """Serve a gallery of PACKAGE's vectors until Ctrl-C: HTTP requests, and a page at /.

    Requests need a key of `reidkit keys add`. Nothing is encrypted here: beyond this machine put a
    server that speaks TLS in front. Ctrl-C lets requests in flight finish; exit code 0.
    """
    from reidkit.serving import serve

    def announce(address: str) -> None:
        click.echo(f"{address}: the page; the API is in {address}/openapi.json")
        click.echo(_word_protection(serving))
        click.echo("Ctrl-C stops it")

    settings = serving.settings(needed)
    with _logging():
        serve(package, place=place, settings=settings, announce=announce)
    click.echo("stopped")


@contextmanager
def _logging() -> Iterator[None]:
    """Write what the service logs to stderr, with time and level, while the block runs."""
    root, ours, handler = logging.getLogger(), logging.getLogger("reidkit"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = ours.level
    ours.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)


def _word_protection(serving: Serving) -> str:
    kept = "crops are kept until they are erased"
    if serving.retain is not None:
        kept = f"crops are erased {_word_seconds(serving.retain)} after they were enrolled"
    if serving.no_auth:
        return f"NO KEYS: everybody on this machine may do everything; {kept}"
    return f"every request needs a key (reidkit keys); {kept}; not encrypted (no TLS)"


def _word_seconds(seconds: float) -> str:
    size, unit = next(
        ((size, unit) for size, unit in _UNITS if seconds % size == 0), (1, "seconds")
    )
    return f"{seconds / size:g} {unit}"
