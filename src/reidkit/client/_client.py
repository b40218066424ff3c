"""A gallery behind `reidkit serve`, asked over HTTP as `reidkit.Gallery` is asked in a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from reidkit.client._connection import Connection, is_absent, read_json
from reidkit.client._fields import (
    MOST_PICTURES,
    File,
    Form,
    asking_form,
    crop_form,
    find_place,
    group_crops,
    quote_name,
    read_file,
    read_files,
)
from reidkit.errors import ArgumentError, GalleryError, ImageError, MismatchError
from reidkit.gallery import (
    Answer,
    Asking,
    AuditLine,
    Crops,
    Enrolment,
    Person,
    Picture,
    Refused,
    Stats,
    answer_from_json,
    audit_from_json,
    check_name,
    crops_from_json,
    enrolment_from_json,
    join_crops,
    person_from_json,
    stats_from_json,
)
from reidkit.records import Progress

if TYPE_CHECKING:
    import httpx

Pictures = Sequence[str | Path | Picture]

_PAGE = 1000
"""How many of a person's crops are asked for at once."""


class UnfinishedError(GalleryError):
    """An enrolment of several requests, of which a later one failed.

    `enrolment` holds what had been acknowledged until then, which is on the service's disk. The
    same call again is harmless: it replaces what is there.
    """

    def __init__(self, message: str, enrolment: Enrolment) -> None:
        super().__init__(message)
        self.enrolment = enrolment


class Client:
    """Asks a service. Use it as a context manager, or call `close()`; safe to use from threads.

    Its methods are those of `reidkit.Gallery` that are for pictures and people, and answer as
    they do: `embed`, `search`, `search_like`, `add`, `list_people`, `read_person`, `remove`,
    `picture`, `stats`, `audit`, `compact`. Vectors are not taken over HTTP, and what is for whoever
    runs the gallery (`export`, `reembed`, `remove_where`) is done where it lies.

    `url` is the service's address, such as `https://reid.example.org`; `key` one that
    `reidkit keys add` made. The key is sent to that address alone: no redirect is followed, and
    `http://` to another machine, on which it could be read on the way, is refused unless
    `insecure` says that the network is trusted. A proxy that the environment names is used for
    `https://` only. A request waits `timeout` seconds; where the service is busy it is sent again
    a few times, as late as the service asks for. `transport` sends the requests in place of the
    network.

    All methods raise:
        GalleryError: the service cannot be reached, refused the key, or failed.
        MismatchError: the service's gallery has moved to another model: it must be started again.
        ArgumentError, ImageError: the service did not take what was sent, and why.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        insecure: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Check address and key; nothing is sent yet."""
        self._connection = Connection(
            url, key, timeout=timeout, insecure=insecure, transport=transport
        )

    def embed(self, pictures: Pictures) -> NDArray[np.float32]:
        """Turn pictures into vectors: (N, D) float32, as the service's model makes them."""
        parts = []
        for start in range(0, len(pictures), MOST_PICTURES):
            files = read_files(pictures[start : start + MOST_PICTURES])
            found = self._connection.ask("POST", "/v1/embed", files=files)
            with self._connection.understanding():
                parts.append(np.asarray(found["vectors"], np.float32))
        if not parts:
            raise ArgumentError("there are no pictures to embed: give at least one")
        return np.concatenate(parts)

    def search(self, pictures: Pictures, asking: Asking | None = None) -> Answer:
        """Ask whom pictures show; several are taken to show one person and are pooled."""
        if not 1 <= len(pictures) <= MOST_PICTURES:
            raise ArgumentError(
                f"{len(pictures)} pictures were given, a search takes 1 to {MOST_PICTURES}, all of "
                "one person"
            )
        form, files = asking_form(asking or Asking()), read_files(pictures)
        return self._search(form, files)

    def search_like(self, crop: int, asking: Asking | None = None) -> Answer:
        """Ask who looks like a crop of the gallery, that crop itself left out."""
        form = {**asking_form(asking or Asking()), "like": [str(crop)]}
        return self._search(form)

    def add(self, crops: Crops, *, progress: Progress | None = None) -> Enrolment:
        """Enrol crops, whose `sources` are picture files here.

        Crops of one person, camera, time and tags go together, at most 16 in a request. Those
        that cannot be read or that the service refuses are named in the result; ids are in the
        order of the crops taken.

        Raises:
            UnfinishedError: a later request failed; it holds what was acknowledged before.
        """
        ids: dict[int, int] = {}
        refused: dict[int, Refused] = {}
        replaced = skipped = done = 0
        for rows in group_crops(crops):
            try:
                found = self._enrol(crops, rows, refused)
            except (GalleryError, ArgumentError, ImageError, MismatchError) as error:
                if not ids:
                    raise
                raise UnfinishedError(
                    f"{len(ids):,} of {len(crops):,} crops were enrolled, then: {error}. Enrol "
                    "again to go on: what is there already is replaced by itself",
                    _merge(ids, replaced, skipped, refused),
                ) from error
            taken = [row for row in rows if row not in refused]
            ids |= dict(zip(taken, found.ids, strict=False))
            replaced += found.replaced
            skipped += found.skipped
            done += len(rows)
            if progress is not None:
                progress(done, len(crops))
        return _merge(ids, replaced, skipped, refused)

    def list_people(self, *, after: str = "", limit: int = 100, named: str = "") -> list[Person]:
        """List people by name, those after a name, whose name contains `named`."""
        query = {
            "after": check_name(after, "after"),
            "limit": str(limit),
            "named": check_name(named, "named"),
        }
        found = self._connection.ask("GET", "/v1/persons", query=query)
        with self._connection.understanding():
            return [person_from_json(person) for person in found["persons"]]

    def read_person(self, name: str) -> Crops:
        """Give a person's crops, by id; none where nobody has that name."""
        path = _find_path(name)
        parts: list[Crops] = []
        query = {"limit": str(_PAGE)}
        while True:
            answer = self._connection.send("GET", path, query=query)
            if is_absent(answer):  # perhaps erased while it was read
                return Crops.make(0)
            found = self._connection.read(answer)
            with self._connection.understanding():
                parts.append(crops_from_json(found["crops"]))
                following = found.get("next")
                if following is None:
                    return join_crops(parts)
                if str(following) == query.get("after") or not len(parts[-1]):
                    raise ValueError("a page that leads nowhere")
            query["after"] = str(following)

    def remove(self, person: str) -> int:
        """Erase a person and count the crops that are gone; 0 where nobody has that name."""
        answer = self._connection.send("DELETE", _find_path(person))
        if is_absent(answer):
            return 0
        found = self._connection.read(answer)
        with self._connection.understanding():
            return int(found["erased"])

    def picture(self, crop: int) -> bytes | None:
        """Give a crop's picture, a PNG file; `None` where none is kept."""
        answer = self._connection.send("GET", f"/v1/crops/{crop}/picture")
        if is_absent(answer):
            return None
        if answer.status_code >= 300:
            self._connection.refuse(answer)
        return answer.content

    def stats(self) -> Stats:
        """Say what the gallery holds and how it searches."""
        found = self._connection.ask("GET", "/v1/gallery")
        with self._connection.understanding():
            return stats_from_json(found)

    def audit(self, *, limit: int = 1000) -> list[AuditLine]:
        """Give the audit's latest lines, the newest first."""
        found = self._connection.ask("GET", "/v1/audit", query={"limit": str(limit)})
        with self._connection.understanding():
            return audit_from_json(found["lines"])

    def compact(self) -> None:
        """Drop every trace of what was erased."""
        self._connection.ask("POST", "/v1/gallery/compact")

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _search(self, form: Form, files: Sequence[File] = ()) -> Answer:
        found = self._connection.ask("POST", "/v1/search", form=form, files=files)
        with self._connection.understanding():
            return answer_from_json(found)

    def _enrol(self, crops: Crops, rows: Sequence[int], refused: dict[int, Refused]) -> Enrolment:
        """Send crops of one person; note in `refused`, by row, those that are not taken."""
        files, sent = [], []
        for row in rows:
            try:
                files.append(read_file(crops.sources[row]))
                sent.append(row)
            except ImageError as error:
                refused[row] = Refused(error.path, error.reason)
        if not files:
            return Enrolment()
        form = crop_form(crops, rows[0])
        answer = self._connection.send("POST", "/v1/persons", form=form, files=files)
        content = read_json(answer)
        if answer.status_code == 422 and content.get("refused"):  # all of them were
            content = {"ids": [], "replaced": 0, "skipped": 0, "refused": content["refused"]}
        elif answer.status_code >= 300:
            self._connection.refuse(answer, files)
        with self._connection.understanding():
            found = enrolment_from_json(content)
            for each in found.refused:
                row = sent[find_place(each.name)]
                refused[row] = Refused(crops.sources[row], each.reason)
        return found


def _find_path(person: str) -> str:
    """Give the path of a person.

    Raises:
        ArgumentError: no name that anybody can have.
    """
    name = check_name(person, "person")
    if not name:
        raise ArgumentError("a person's name is needed")
    return f"/v1/persons/{quote_name(name)}"


def _merge(
    ids: Mapping[int, int], replaced: int, skipped: int, refused: Mapping[int, Refused]
) -> Enrolment:
    return Enrolment(
        tuple(ids[row] for row in sorted(ids)),
        replaced,
        skipped,
        tuple(refused[row] for row in sorted(refused)),
    )
