"""`reidkit search`: ask a gallery, or a service for one, whom pictures show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _gallery_options, _options

if TYPE_CHECKING:
    from reidkit.gallery import Answer, Asking


@click.command("search", short_help="Ask a gallery or a service whom pictures show.")
@click.argument("where", metavar="URL|PLACE")
@click.argument("pictures", type=_options.PATH, nargs=-1, required=True)
@click.option(
    "--key",
    envvar="REIDKIT_KEY",
    show_envvar=True,
    help="Key of the service; others may see options, so the environment is the better place.",
)
@click.option(
    "--insecure", is_flag=True, help="Allow http:// to another machine, on a trusted network."
)
@_gallery_options.package
@_gallery_options.memory
@_gallery_options.filters
@_gallery_options.counts
@_options.common
def command(
    where: str,
    pictures: tuple[Path, ...],
    key: str | None,
    insecure: bool,
    package: Path | None,
    memory: int | None,
    filters: _gallery_options.Filters,
    counts: _gallery_options.Counts,
    as_json: bool,
) -> None:
    """Say whom PICTURES show, all of one person.

    URL is the address of `reidkit serve`; PLACE a gallery's folder or PostgreSQL address.
    """
    from reidkit.cli import _gallery_printing

    asking = counts.asking(filters)
    if where.startswith(("http://", "https://")):
        _gallery_options.refuse_options(["package", "memory"], "for a gallery, not for a service")
        answer = _ask_service(where, pictures, asking, key=key, insecure=insecure)
    else:
        _gallery_options.refuse_options(["key", "insecure"], "for a service, not for a gallery")
        answer = _ask_gallery(where, pictures, asking, package=package, memory=memory)
    _gallery_printing.print_answer(answer, as_json=as_json)


def _ask_service(
    url: str, pictures: tuple[Path, ...], asking: Asking, *, key: str | None, insecure: bool
) -> Answer:
    from reidkit.client import Client

    with Client(url, key, insecure=insecure) as client:
        return client.search(pictures, asking)


def _ask_gallery(
    place: str,
    pictures: tuple[Path, ...],
    asking: Asking,
    *,
    package: Path | None,
    memory: int | None,
) -> Answer:
    from reidkit.gallery import Gallery

    held = _gallery_options.choose_memory(place, memory)
    with Gallery.open(place, package=package, memory=held) as gallery:
        return gallery.search(pictures, asking, actor=_gallery_options.find_actor())
