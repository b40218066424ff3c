"""schemathesis against the OpenAPI of a real server, whose gallery holds a few people.

Afterwards, for a fifth of the time, it runs once more with the model's version and name and the
people's names written into the schema, which chance seldom hits.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from reidkit.package import InputSpec, read_package
from service_ledger import ask_json
from service_processes import make_gallery, make_package, start_server
from service_requests import FORM, draw_jpegs, write_form

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

_PEOPLE = 8

_ERROR = re.compile(r"ERROR|CRITICAL|^[\w.]*(?:Error|Exception)\b")
"""What a server's log says of something unexpected, and what it was."""

Figures = dict[str, object]


def measure(seconds: float) -> Figures:
    """Run schemathesis for so many seconds and say what it sent and found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = make_package(folder, "resnet18", InputSpec(height=128, width=64))
        log = folder / "server.log"
        server = start_server(package, make_gallery(folder / "gallery", package), log=log)
        try:
            _enrol_some(server.port)
            known = _write_known_names(server.port, folder, read_package(package).spec.name)
            runs = {
                "as it is": _run(server.url, f"{server.url}/openapi.json", folder, seconds),
                "known names": _run(server.url, str(known), folder, max(seconds / 5, 1)),
            }
            held = server.look()
            alive = server.process.poll() is None
        finally:
            server.stop()
        lines = log.read_text(errors="replace").splitlines()
    return {
        "seconds": seconds,
        "checks": CHECKS,
        "runs": runs,
        "server_alive": alive,
        "server_mib": held.rss_mib,
        "server_errors": [line for line in lines if _ERROR.search(line)][:40],
    }


def _enrol_some(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number, jpeg in enumerate(draw_jpegs(_PEOPLE, height=64, width=32)):
        body = write_form([jpeg], [("person", f"person {number}"), ("camera", "entrance")])
        status, found = ask_json(connection, "POST", "/v1/persons", body=body, headers=FORM)
        if status != 201:
            raise RuntimeError(f"enrolment failed: {status} {found}")
    connection.close()


def _write_known_names(port: int, folder: Path, model: str) -> Path:
    """Write the server's OpenAPI document with names that are there in place of any text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    _, document = ask_json(connection, "GET", "/openapi.json")
    connection.close()
    known = {
        "model": [model],
        "version": ["1"],
        "name": [f"person {number}" for number in range(_PEOPLE)],
    }
    for operation in (each for path in document["paths"].values() for each in path.values()):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "path" and parameter["name"] in known:
                parameter["schema"] = {"type": "string", "enum": known[parameter["name"]]}
    path = folder / "known.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _run(url: str, schema: str, folder: Path, seconds: float) -> Figures:
    report = folder / "report.ndjson"
    command = [str(Path(sys.executable).with_name("st")), "run", schema, "--url", url]
    options = ["--checks", ",".join(CHECKS), "--max-time", str(int(seconds)), "--no-color"]
    more = ["--continue-on-failure", "--report", "ndjson", "--report-ndjson-path", report.name]
    more += ["--request-timeout", "30", "--generation-database", "none", "--workers", "2"]
    done = subprocess.run(
        command + options + more,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 120,
        cwd=folder,
    )
    with report.open(encoding="utf-8") as events:
        counted = _count(map(json.loads, events))
    return {"exit_code": done.returncode, **counted, "summary": done.stdout.splitlines()[-40:]}


def _count(events: Iterable[Any]) -> Figures:
    """Count requests by status and checks that failed by name, from the report's events."""
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for each in itertools.chain.from_iterable(map(_walk, events)):
        if "status_code" in each and "elapsed" in each:
            statuses[str(each["status_code"])] += 1
        if each.get("status") == "failure" and "name" in each:
            failures[str(each["name"])] += 1
    return {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "failed_checks": dict(failures),
    }


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    """Give every object in a JSON value."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from _walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from _walk(each)
