"""Which crops the options of `gallery add` mean, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _options

if TYPE_CHECKING:
    from reidkit.gallery import Crops, Left

SPLIT = ("layout", "split", "zero_is_person")
"""Options of a data set's split, but for the data set."""


@dataclass(frozen=True, slots=True)
class Split:
    """A split of a data set."""

    root: Path | None = None
    layout: str | None = None
    split: str | None = None
    zero_is_person: bool = False

    def read(self, camera: str, tags: Sequence[str]) -> tuple[Crops, Left]:
        """Give its crops, each person's and camera's number as the name.

        Raises:
            DatasetError: no data set.
        """
        from reidkit.datasets import find_layout, load_dataset
        from reidkit.gallery import choose_people, make_crops

        if self.root is None or self.split is None:
            raise click.UsageError("--data needs --split: query, gallery or train")
        samples = load_dataset(self.layout or find_layout(self.root), self.root).split(self.split)
        keep, left = choose_people(samples, zero_is_person=self.zero_is_person)
        return make_crops(samples.select(keep), camera=camera, tags=tags), left


def splits(command: Callable[..., None]) -> Callable[..., None]:
    """Add a data set and its split; the command gets them as one `source` value."""
    return _options.add(
        _options.gather(command, "source", Split),
        _options.data,
        click.option(
            "--split",
            type=click.Choice(["query", "gallery", "train"]),
            help="Which part of the data set.",
        ),
        click.option(
            "--zero-is-person",
            is_flag=True,
            help="Person 0 is a person as any other (MSMT17, tables), not a distractor.",
        ),
    )


def read_pictures(
    pictures: Sequence[Path],
    name_person: Callable[[Path], str],
    *,
    camera: str = "",
    time: float | None = None,
    tags: Sequence[str] = (),
) -> Crops:
    """Make crops of pictures and the pictures in folders.

    Raises:
        DatasetError: one is not there, or a folder has none.
    """
    from reidkit.datasets.images import find_images
    from reidkit.gallery import Crops

    paths = find_images(pictures)
    columns: dict[str, object] = {} if time is None else {"times": [time] * len(paths)}
    return Crops.make(
        len(paths),
        people=[name_person(Path(path)) for path in paths],
        cameras=[camera] * len(paths),
        sources=paths,
        tags=[tuple(tags)] * len(paths),
        **columns,
    )


def choose_naming(person: str | None, person_from: str | None) -> Callable[[Path], str]:
    """Say how a picture's person is found."""
    if (person is None) == (person_from is None):
        raise click.UsageError("whom do they show? Give either --person or --person-from")
    if person is not None:
        if not person.strip():
            raise click.BadParameter("--person is empty: give a name")
        return lambda _path: person
    return {"folder": lambda path: path.parent.name, "stem": lambda path: path.stem}[
        str(person_from)
    ]
