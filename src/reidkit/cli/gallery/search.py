"""`reidkit gallery search`: have we seen this person?"""

from __future__ import annotations

from pathlib import Path

import click

from reidkit.cli import _gallery_options, _options


@click.command("search", short_help="Ask whom pictures show.")
@click.argument("place")
@click.argument("pictures", type=_options.PATH, nargs=-1, required=True)
@_gallery_options.filters
@_gallery_options.counts
@_gallery_options.package
@_gallery_options.memory
@click.option("--device", help="Where the model runs; see reidkit embed.")
@_options.common
def command(
    place: str,
    pictures: tuple[Path, ...],
    filters: _gallery_options.Filters,
    counts: _gallery_options.Counts,
    package: Path | None,
    memory: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Say whom PICTURES show, all of one person, with a verdict for each candidate.

    The verdicts come from the operating points of the gallery's package. That somebody searched
    is noted in the audit, not for whom.
    """
    from reidkit.cli import _gallery_printing
    from reidkit.gallery import Gallery

    actor = _gallery_options.find_actor()
    held = _gallery_options.choose_memory(place, memory)
    with Gallery.open(place, package=package, memory=held, device=device) as gallery:
        answer = gallery.search(pictures, counts.asking(filters), actor=actor)
    _gallery_printing.print_answer(answer, as_json=as_json)
