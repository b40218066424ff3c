"""What a service has acknowledged, and whether it still holds to it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from service_requests import FORM, write_form

State = Literal["enrolling", "there", "erasing", "gone"]
"""`enrolling` and `erasing`: asked for, and no answer came: either way is right, halves are not."""

_SAMPLE = 60


@dataclass(slots=True)
class Entry:
    """One person: pictures sent, crop ids acknowledged, and how things stand."""

    pictures: list[bytes]
    state: State = "enrolling"
    ids: list[int] = field(default_factory=list)


Ledger = dict[str, Entry]
"""Name -> what was asked and acknowledged. Each worker has its own."""


def check_ledger(port: int, ledger: Ledger) -> dict[str, Any]:
    """Compare a service with what it acknowledged; `wrong` names what does not hold.

    The list of all people is compared with all of the ledger, the crops of everybody who should
    be there by id, and searches by picture for some of them and of those erased last.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    wrong: list[str] = []
    try:
        listed = _list_people(connection)
        for name, entry in ledger.items():
            crops = listed.get(name, 0)
            if entry.state == "there" and crops != len(entry.ids):
                wrong.append(f"lost: {name}, {crops} of {len(entry.ids)} crops")
            elif entry.state == "gone" and crops:
                wrong.append(f"found again: {name}, {crops} crops")
            elif crops not in (0, len(entry.pictures)):
                wrong.append(f"half: {name}, {crops} of {len(entry.pictures)} crops")
        there = [name for name, entry in ledger.items() if entry.state == "there"]
        gone = [name for name, entry in ledger.items() if entry.state == "gone"]
        for name in there:
            status, found = ask_json(connection, "GET", f"/v1/persons/{quote(name, safe='')}")
            ids = {crop["crop"] for crop in found.get("crops", [])}
            if status != 200 or ids != set(ledger[name].ids):
                wrong.append(f"other crops: {name}, status {status}")
        wrong += [
            f"not found by picture: {name}"
            for name in there[-_SAMPLE:]
            if name not in _search(connection, ledger[name], [("person", name)])
        ]
        wrong += [
            f"found by picture after erasure: {name}"
            for name in gone[-_SAMPLE:]
            if name in _search(connection, ledger[name], [])
        ]
    finally:
        connection.close()
    unknown = sum(entry.state in ("enrolling", "erasing") for entry in ledger.values())
    return {"there": len(there), "gone": len(gone), "unanswered": unknown, "wrong": wrong}


def ask_json(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Ask, and give the status and the JSON of the answer."""
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    data = answer.read()
    return answer.status, json.loads(data) if data else {}


def _list_people(connection: http.client.HTTPConnection) -> dict[str, int]:
    found: dict[str, int] = {}
    after: str | None = ""
    while after is not None:
        path = f"/v1/persons?limit=1000&after={quote(after, safe='')}"
        status, page = ask_json(connection, "GET", path)
        if status != 200:
            raise RuntimeError(f"people cannot be listed: {status} {page}")
        found |= {person["name"]: person["crops"] for person in page["persons"]}
        after = page["next"]
    return found


def _search(
    connection: http.client.HTTPConnection, entry: Entry, fields: list[tuple[str, str]]
) -> list[str]:
    body = write_form(entry.pictures[:1], fields)
    status, found = ask_json(connection, "POST", "/v1/search", body=body, headers=FORM)
    if status != 200:
        raise RuntimeError(f"search after a restart: {status} {found}")
    return [person["person"] for person in found["people"]]
