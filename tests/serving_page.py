"""Two small services over drawn people, for the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reidkit import demo_model
from reidkit.exporting import export_package
from reidkit.gallery import Crops, Gallery, Thresholds
from reidkit.serving._app import make_app
from reidkit.serving._context import Service
from reidkit.serving._keys import add_key
from reidkit.training import read_recipe
from tests.serving_app import on_loopback

HOSTILE = "<img src=x onerror=alert(1)>"
PEOPLE = {7: "Anna", 8: "Bruno", 9: "Chidi", 10: "Dalia", 11: "Emre", 12: HOSTILE}
"""The drawn people's numbers and what they are called; six of them make numbers from 7."""

THRESHOLDS = Thresholds(0.48, 0.36, 0.001, 0.01, "pairs")
"""As `reidkit demo` finds them for this network, from more people than fit in a test."""

MORNING = 1_795_500_000
"""2026-11-24 in the morning, in seconds since 1970."""


@dataclass(frozen=True)
class Sites:
    """Addresses of two services.

    `keyed` has thresholds and asks for one of `keys`, which are called like their roles; `plain`
    has none and asks for none.
    """

    keyed: str
    plain: str
    keys: dict[str, str]


@contextmanager
def serve_galleries(folder: Path) -> Iterator[Sites]:
    """Serve the people drawn in `folder / "drawn"` twice, on free ports."""
    keys = {
        role: add_key(folder / "keys.json", role, [role]) for role in ("admin", "search", "enrol")
    }
    contract = read_recipe(demo_model.RECIPE).contract
    with ExitStack() as stack:
        addresses = []
        for name, file in (("keyed", folder / "keys.json"), ("plain", None)):
            package = export_package(demo_model.CHECKPOINT, folder / name, contract=contract)
            gallery = stack.enter_context(Gallery.create(folder / f"{name}-gallery", package))
            gallery.thresholds = THRESHOLDS if file is not None else None
            enrolment = gallery.add(describe_crops(folder / "drawn"))
            assert not enrolment.refused
            port = stack.enter_context(on_loopback(make_app(Service(gallery, keys=file))))
            addresses.append(f"http://127.0.0.1:{port}")
        yield Sites(addresses[0], addresses[1], keys)


def list_files(drawn: Path) -> list[Path]:
    """List the gallery's pictures of people who have a name."""
    files = sorted((drawn / "bounding_box_test").iterdir())
    return [file for file in files if file.name[:4].isdigit() and int(file.name[:4]) in PEOPLE]


def describe_crops(drawn: Path) -> Crops:
    """Say whom pictures show, and where and when they were taken."""
    files = list_files(drawn)
    people = [int(file.name[:4]) for file in files]
    cameras = [int(file.name[6]) for file in files]
    frames = [int(file.name[10:16]) for file in files]
    return Crops.make(
        len(files),
        people=[PEOPLE[person] for person in people],
        cameras=[f"{'Entrance' if camera < 3 else 'Hall'} {camera}" for camera in cameras],
        times=[float(MORNING + 60 * f + 1800 * c) for f, c in zip(frames, cameras, strict=True)],
        sources=[str(file) for file in files],
        tags=[("staff",) if person % 3 == 0 else () for person in people],
    )
