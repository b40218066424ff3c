"""The service's benchmark in its smallest sizes: it measures, merges, and notices what is wrong."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.certified import write_fake
from tests.pictures import skip_without
from tests.serving_app import draw_pngs, serving

FOLDER = Path(__file__).parent.parent / "benchmarks"
SHORTLY = """
import service, service_soak
service_soak.LIVES = (0.4, 0.4, 0.2)
service.main()
"""
"""What soaks for one second only, most of it before the kills: memory is not looked at here."""


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give what imports a file of the benchmarks, as their scripts do."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in [name for name in sys.modules if name.startswith("service_")]:
        del sys.modules[name]


def test_a_short_soak_loses_nothing_and_goes_into_the_record(
    tmp_path: Path, benchmarks: Any
) -> None:
    record = tmp_path / "service.json"
    kept = {"parts": {"batching": {"rounds": 7}}}
    record.write_text(json.dumps(kept), encoding="utf-8")
    package = write_fake(tmp_path / "package").folder
    script = tmp_path / "shortly.py"
    script.write_text(SHORTLY, encoding="utf-8")
    line = [sys.executable, str(script), "--parts", "soak", "--seconds", "1"]
    subprocess.run(
        [*line, "--package", str(package), "--record", str(record)],
        check=True,
        env=benchmarks("service_processes").plain_environment() | {"PYTHONPATH": str(FOLDER)},
    )
    parts = json.loads(record.read_text(encoding="utf-8"))["parts"]
    assert parts["batching"] == kept["parts"]["batching"]
    soak = parts["soak"]
    assert soak["load_average"] >= 0
    assert soak["findings"] == soak["server_errors"] == []
    assert [check["wrong"] for check in soak["checks"]] == [[], [], []]
    assert soak["checks"][-1]["there"] > 0
    assert soak["counts"]["enrol: 201"] > 0
    assert len(soak["lives"]) == 3


def test_the_ledger_notices_what_is_lost_and_what_is_found_again(
    tmp_path: Path, benchmarks: Any
) -> None:
    ledgers = benchmarks("service_ledger")
    pictures = draw_pngs(4)
    with serving(tmp_path, keyed=False) as served:
        ids = [served.enrol(f"p{n}", [each]).json()["ids"] for n, each in enumerate(pictures)]
        entries = {f"p{n}": ledgers.Entry([pictures[n]], "there", ids[n]) for n in range(4)}
        assert ledgers.check_ledger(served.port, entries)["wrong"] == []
        served.ask("DELETE", "/v1/persons/p0")
        entries["p1"].state = "gone"
        entries["p2"].ids = [*ids[2], 99]
        entries["p3"].pictures, entries["p3"].state = pictures[:2], "erasing"
        wrong = ledgers.check_ledger(served.port, entries)["wrong"]
    for what in ("lost: p0", "found again: p1", "other crops: p2", "half: p3"):
        assert any(line.startswith(what) for line in wrong), (what, wrong)


def test_recall_counts_what_the_filter_leaves(benchmarks: Any) -> None:
    vectors = benchmarks("service_vectors")
    people = vectors.draw_people(400, queries=8, dimension=32)
    likeness = vectors.describe_likeness(people)
    assert likeness["same"] == pytest.approx(0.67, abs=0.08)
    assert likeness["different"] == pytest.approx(0.14, abs=0.08)
    mask = people.cameras == 3
    tenth = vectors.find_truth(people, 8, mask)
    right = np.stack([vectors.search_plainly(people.vectors, q, mask) for q in people.queries])
    assert vectors.measure_recall(people, right, tenth, mask) == 1
    unfiltered = vectors.search_plainly(people.vectors, people.queries, None)
    assert vectors.measure_recall(people, unfiltered, tenth, mask) < 1
    right[:, :5] = -1
    assert vectors.measure_recall(people, right, tenth, mask) == 0.5


def test_every_fault_is_refused_and_harms_nobody(tmp_path: Path, benchmarks: Any) -> None:
    import http.client

    faults = benchmarks("service_faults")
    picture = draw_pngs(1)[0]
    with serving(tmp_path, keyed=False) as served:
        for name, make in faults._FAULTS.items():
            for path, fields in (("/v1/embed", []), ("/v1/persons", [("person", "x")])):
                connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
                status = faults.send(connection, make(path, fields, picture))
                connection.close()
                allowed = {0, 413} if name == "chunked oversize" else set(range(400, 500))
                assert status in allowed, (name, status)
        assert served.ask("GET", "/v1/persons").json()["persons"] == []


def test_requests_are_what_the_service_reads(tmp_path: Path, benchmarks: Any) -> None:
    requests = benchmarks("service_requests")
    jpeg = requests.draw_jpegs(1, height=32, width=16)[0]
    with serving(tmp_path, keyed=False) as served:
        spec = served.service.model.spec
        pixels = np.zeros((spec.input.height, spec.input.width, 3), np.uint8)
        sent = [requests.write_embed(jpeg), requests.write_infer(pixels, spec.name)]
        answers = requests.ask(served.port, sent, clients=2, each=3)
    assert answers.statuses == {200: 6}
    assert len(answers.latencies) == 6
    assert answers.rate > 0


def test_events_of_the_fuzzing_are_counted(benchmarks: Any) -> None:
    skip_without("schemathesis")
    fuzz = benchmarks("service_fuzz")
    event = {"case": [{"status_code": 422, "elapsed": 0.1}, {"name": "c", "status": "failure"}]}
    counted = fuzz._count([event, event])
    assert counted["requests"] == 2
    assert counted["statuses"] == {"422": 2}
    assert counted["failed_checks"] == {"c": 2}
