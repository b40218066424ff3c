"""`reidkit gallery stats`, `people` and `audit`: what is in a gallery, and who did what to it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from reidkit.cli import _gallery_options, _options


@click.command("stats", short_help="What it holds, and how it searches.")
@click.argument("place")
@_gallery_options.package
@click.option("--measure", is_flag=True, help="Measure the recall against exact search anew.")
@_options.common
def command(place: str, package: Path | None, measure: bool, as_json: bool) -> None:
    """Say how many people and crops there are, of which model, and how they are searched."""
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import Gallery, stats_as_json

    with Gallery.open(place, package=package) as gallery:
        found = gallery.stats(measure=measure)
    if as_json:
        _output.print_json(stats_as_json(found))
        return
    facts = found.store
    click.echo(f"{found.crops:,} crops of {found.people:,} people in {facts.name}")
    recall = "" if facts.recall is None else f", finds {facts.recall:.2%} of the true ten best"
    click.echo(f"search: {facts.search}{recall}")
    click.echo(f"{facts.disk:,} bytes on disk, {facts.memory:,} bytes of vectors in memory")
    click.echo(f"model {found.binding.model_sha256[:12]}, {found.binding.package}")
    click.echo(_gallery_printing.word_thresholds(found.thresholds))


@click.command("people", short_help="Who is in it.")
@click.argument("place")
@_gallery_options.package
@click.option("--named", default="", help="Only names that contain this.")
@click.option("--after", default="", help="Only names after this one.")
@click.option("--limit", type=click.IntRange(1, 10000), default=100, show_default=True)
@click.option("--person", metavar="NAME", help="List this person's crops instead.")
@_options.common
def people(
    place: str,
    package: Path | None,
    named: str,
    after: str,
    limit: int,
    person: str | None,
    as_json: bool,
) -> None:
    """List the people by name, or the crops of one, which the audit notes: not whose."""
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import Gallery, check_name, crops_as_json, person_as_json

    if person is not None:
        _gallery_options.refuse_options(["named", "after", "limit"], "not together with --person")
    named, after = check_name(named, "--named"), check_name(after, "--after")
    with Gallery.open(place, package=package) as gallery:
        if person is not None:
            crops = gallery.read_person(check_name(person, "--person"))
            if len(crops):
                gallery.store.note("read", len(crops), actor=_gallery_options.find_actor())
        else:
            listed = gallery.list_people(after=after, limit=limit, named=named)
    if person is not None:
        if as_json:
            _output.print_json({"person": person, "crops": crops_as_json(crops)})
        else:
            _gallery_printing.print_crops(crops)
    elif as_json:
        _output.print_json({"people": [person_as_json(each) for each in listed]})
    else:
        _gallery_printing.print_people(listed)


@click.command("audit", short_help="Who did what, and when.")
@click.argument("place")
@click.option("--limit", type=click.IntRange(1, 100000), default=50, show_default=True)
@_options.common
def audit(place: str, limit: int, as_json: bool) -> None:
    """List what was done, the newest first: who, what, to how many crops; never to whom."""
    from reidkit.cli import _gallery_printing, _output
    from reidkit.gallery import audit_as_json, open_store

    with closing(open_store(place)) as store:
        lines = store.audit(limit=limit)
    if as_json:
        _output.print_json({"lines": audit_as_json(lines)})
        return
    for line in lines:
        moment = _gallery_printing.word_time(line.time)
        click.echo(f"{moment}  {line.actor}  {line.action}  {line.count:,}")
