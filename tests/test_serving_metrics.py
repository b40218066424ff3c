"""Metrics without personal data, retention, and readiness."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reidkit.errors import ArgumentError, GalleryError
from reidkit.gallery import Binding, Crops, Gallery, parse_period
from reidkit.serving._census import Census
from reidkit.serving._load import EngineRun
from reidkit.serving._metrics import CONTENT_TYPE, Metrics, RequestMeter
from reidkit.serving._retention import Retention, erase_expired
from reidkit.serving._running import find_unready
from tests.serving_app import SIZE, draw_pngs, make_gallery, serving

DAY = 86400.0


def read(metrics: Metrics | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Give every sample: (name, labels) -> value."""
    text = metrics if isinstance(metrics, str) else metrics.render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def fill_gallery(folder: Path, ages: list[float], now: float) -> Gallery:
    """Make a gallery with a crop of each age in seconds."""
    gallery = make_gallery(folder)
    vectors = np.eye(len(ages), SIZE, dtype=np.float32)
    crops = Crops.make(
        len(ages),
        people=[f"person {row}" for row in range(len(ages))],
        digests=[f"{row:064x}" for row in range(len(ages))],
        added=[now - age for age in ages],
    )
    gallery.store.upsert(
        crops, vectors, [None] * len(ages), binding=gallery.binding, actor="library"
    )
    return gallery


def test_each_service_counts_for_itself() -> None:
    first, second = Metrics(), Metrics()
    first.reject("queue")
    assert read(first)["reidkit_rejected_total", (("reason", "queue"),)] == 1
    assert not any(name == "reidkit_rejected_total" for name, _ in read(second))


def test_an_engine_run_is_measured_whole() -> None:
    metrics = Metrics()
    metrics.observe_run(EngineRun(5, 0.02, (0.001, 0.002), failed=False))
    metrics.observe_run(EngineRun(3, 0.02, (0.001,), failed=True))
    found = read(metrics)
    assert found["reidkit_embedded_pictures_total", ()] == 5
    assert found["reidkit_engine_failures_total", ()] == 1
    assert found["reidkit_batch_pictures_sum", ()] == 8
    assert found["reidkit_stage_seconds_count", (("stage", "engine"),)] == 2
    assert found["reidkit_stage_seconds_count", (("stage", "queue"),)] == 3


def test_a_stage_is_measured_when_it_fails_too() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.time("search"):
        raise ZeroDivisionError
    assert read(metrics)["reidkit_stage_seconds_count", (("stage", "search"),)] == 1


def test_watching_anew_replaces_what_was_watched() -> None:
    metrics = Metrics()
    metrics.watch("queue_pictures", "Waiting.", lambda: 3)
    metrics.watch("queue_pictures", "Waiting.", lambda: 4)
    assert read(metrics)["reidkit_queue_pictures", ()] == 4


def test_a_service_shows_templates_and_no_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="reidkit.serving")
    with serving(tmp_path) as served:
        assert served.enrol("Ada Example", draw_pngs(2)).status_code == 201
        served.ask("GET", "/v1/persons/Ada%20Example")
        served.ask("GET", "/v1/persons/Nobody%20Known")
        served.ask("GET", "/wp-login.php")
        served.client.request("BREW", "/healthz")
        assert served.ask("GET", "/readyz").status_code == 200
        asyncio.run(_count_now(served.service.gallery, served.service.metrics))
        answer = served.ask("GET", "/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert "Ada" not in answer.text + caplog.text
    assert "Nobody" not in answer.text + caplog.text
    assert "wp-login" not in answer.text + caplog.text
    assert "BREW" not in answer.text + caplog.text
    found = read(answer.text)
    person = ("method", "GET"), ("route", "/v1/persons/{name:path}")
    assert found["reidkit_requests_total", (*person, ("status", "200"))] == 1
    assert found["reidkit_requests_total", (*person, ("status", "404"))] == 1
    assert found["reidkit_gallery_crops", ()] == 2
    assert found["reidkit_gallery_people", ()] == 1
    assert found["reidkit_queue_pictures", ()] == 0
    assert found["reidkit_embedded_pictures_total", ()] == 2
    stages = {
        dict(labels)["stage"] for name, labels in found if name == "reidkit_stage_seconds_sum"
    }
    assert stages >= {"decode", "queue", "engine", "total"}


async def _count_now(gallery: Gallery, metrics: Metrics) -> None:
    assert await Census(gallery, metrics).count()


def test_a_crash_counts_as_500_and_a_gone_client_as_499() -> None:
    from starlette.requests import ClientDisconnect

    metrics = Metrics()

    async def ask(error: Exception) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            raise error

        scope = {"type": "http", "method": "GET", "path": "/secret"}
        await RequestMeter(app, metrics)(scope, None, None)  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask(ZeroDivisionError()))
    asyncio.run(ask(ClientDisconnect()))
    found = read(metrics)
    for status in ("500", "499"):
        labels = (("method", "GET"), ("route", "unmatched"), ("status", status))
        assert found["reidkit_requests_total", labels] == 1


def test_periods() -> None:
    known = {"30d": 30 * DAY, "12h": 43200, "90m": 5400, " 45 s ": 45, "2W": 14 * DAY}
    assert {text: parse_period(text) for text in known} == known
    for wrong in ("", "30", "d", "0d", "-1d", "1.5h", "1d2h", "1y", "9999999999d"):
        with pytest.raises(ArgumentError, match="30d"):
            parse_period(wrong)


def test_only_what_expired_is_erased(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    with fill_gallery(tmp_path, [31 * DAY, 30 * DAY + 1, 30 * DAY - 1, 0], now) as gallery:
        assert erase_expired(gallery, 30 * DAY, now) == 2
        assert [person.name for person in gallery.list_people()] == ["person 2", "person 3"]
        lines = [(line.actor, line.action, line.count) for line in gallery.audit()]
        assert lines[0] == ("retention", "retention", 2)
        assert erase_expired(gallery, 30 * DAY, now) == 0
        assert len(gallery.audit()) == len(lines)
        with pytest.raises(ArgumentError, match="more than 0"):
            erase_expired(gallery, 0, now)


def test_retention_follows_the_clock(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    clock = iter([now, now, *[now + 20 * DAY] * 1000])
    metrics = Metrics()
    with fill_gallery(tmp_path, [15 * DAY, 0], now) as gallery:

        async def live() -> None:
            retention = Retention(
                gallery, 30 * DAY, metrics=metrics, pause=0.001, clock=lambda: next(clock)
            )
            await retention.start()
            assert len(gallery.list_people()) == 2
            while len(gallery.list_people()) == 2:
                await asyncio.sleep(0.001)
            await retention.stop()
            assert not retention.running
            assert retention.error is None

        asyncio.run(asyncio.wait_for(live(), 20))
        assert [person.name for person in gallery.list_people()] == ["person 1"]
    assert read(metrics)["reidkit_retention_erased_crops_total", ()] == 1


def test_retention_that_fails_makes_the_service_unready_until_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, keep=DAY) as served:
        assert served.client.get("/readyz").status_code == 200
        retention = served.service.retention
        assert retention is not None
        broken = SimpleNamespace(store=SimpleNamespace(count=None))
        with monkeypatch.context() as patch:
            patch.setattr(retention, "_gallery", broken)
            asyncio.run(retention.run_once())
        assert "retention failed" in caplog.text
        refused = served.client.get("/readyz")
        assert refused.status_code == 503
        assert "retention" in refused.text
        assert served.client.get("/healthz").status_code == 200
        assert read(served.service.metrics)["reidkit_retention_failures_total", ()] == 1
        asyncio.run(retention.run_once())
        assert served.client.get("/readyz").status_code == 200


def test_readiness_names_what_is_wrong() -> None:
    """Stopping, an engine that hangs, and a gallery that does not answer."""

    async def fail() -> bool:
        return False

    service: Any = SimpleNamespace(
        draining=True,
        batcher=SimpleNamespace(running=True, busy_seconds=1e9),
        retention=None,
        census=SimpleNamespace(count=fail, moved=True),
    )
    reasons = " ".join(asyncio.run(find_unready(service)))
    assert "stopping" in reasons
    assert "engine" in reasons
    assert "gallery" in reasons
    assert "another model" in reasons


def test_a_gallery_that_moved_makes_the_service_unready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as served:
        assert served.client.get("/readyz").status_code == 200
        assert read(served.service.metrics)["reidkit_gallery_moved", ()] == 0
        moved = Binding("f" * 64, "f" * 64, 8)
        monkeypatch.setattr(type(served.service.gallery.store), "binding", lambda _: moved)
        answer = served.client.get("/readyz")
        assert answer.status_code == 503
        assert "another model" in answer.json()["detail"]
        assert served.client.get("/v2/health/ready").status_code == 503
        assert read(served.service.metrics)["reidkit_gallery_moved", ()] == 1


def test_nothing_that_retention_erased_stays_on_disk(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    with fill_gallery(tmp_path, [15 * DAY, 5 * DAY, 0], now[0]) as gallery:
        retention = Retention(gallery, 30 * DAY, metrics=Metrics(), clock=lambda: now[0])

        def compacted() -> int:
            return sum(line.action == "compact" for line in gallery.audit())

        def traces(name: str) -> list[str]:
            files = (tmp_path / "gallery").iterdir()
            return [file.name for file in files if name.encode() in file.read_bytes()]

        asyncio.run(retention.run_once())
        assert compacted() == 0
        assert traces("person 0")
        now[0] += 20 * DAY
        asyncio.run(retention.run_once())
        assert compacted() == 1
        assert traces("person 0") == []
        now[0] += 10 * DAY
        asyncio.run(retention.run_once())
        asyncio.run(retention.run_once())
        assert compacted() == 2
        assert traces("person 1") == []
        assert traces("person 2")


def test_compacting_once_an_hour_and_again_after_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, calls, metrics = [1_800_000_000.0], list[float](), Metrics()

    def compact(*, actor: str) -> None:
        calls.append(now[0])
        if len(calls) == 1:
            raise GalleryError("busy")

    gallery: Any = SimpleNamespace(
        store=SimpleNamespace(count=lambda _: 1), remove_where=lambda *_, **__: 1, compact=compact
    )
    retention = Retention(gallery, DAY, metrics=metrics, clock=lambda: now[0])
    for _ in range(62):
        asyncio.run(retention.run_once())
        now[0] += 60
    start = 1_800_000_000.0
    assert calls == [start, start + 60, start + 60 + 3600]
    assert retention.error is None
    assert "compacting after retention failed" in caplog.text
    assert read(metrics)["reidkit_retention_failures_total", ()] == 1


def test_what_is_too_old_at_the_start_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_800_000_000.0
    with fill_gallery(tmp_path, [3 * DAY, 2 * DAY, 0], now) as gallery:

        async def live() -> None:
            retention = Retention(gallery, DAY, metrics=Metrics(), clock=lambda: now)
            await retention.start()
            await retention.stop()

        asyncio.run(live())
        asyncio.run(live())
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "retention: 2 crops are too old and are being erased now"
    ]


def test_a_gallery_that_hangs_holds_one_thread(tmp_path: Path) -> None:
    import threading

    gate, calls = threading.Event(), []

    def hang(_: object) -> int:
        calls.append(1)
        gate.wait(20)
        return 0

    binding = Binding("a" * 64, "b" * 64, 8)
    store = SimpleNamespace(count=hang, count_people=lambda: 0, binding=lambda: binding)
    gallery: Any = SimpleNamespace(store=store, binding=binding)

    async def live() -> None:
        census = Census(gallery, Metrics())
        for _ in range(3):
            assert not await census.count(patience=0.01)
        assert calls == [1]
        gate.set()
        assert await census.count()

    asyncio.run(live())


def test_a_gallery_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    gallery: Any = SimpleNamespace(store=None, binding=None)

    async def live() -> bool:
        return await Census(gallery, Metrics()).count()

    assert not asyncio.run(live())
    assert "does not answer" in caplog.text


def test_many_who_ask_at_once_all_get_an_answer(tmp_path: Path) -> None:
    """Another count may begin between the end of one and the answer to who waited for it."""
    with make_gallery(tmp_path) as gallery:

        async def ask_often() -> list[bool]:
            census = Census(gallery, Metrics())

            async def ask() -> list[bool]:
                return [await census.count() for _ in range(20)]

            return [
                each for some in await asyncio.gather(*(ask() for _ in range(8))) for each in some
            ]

        assert asyncio.run(ask_often()) == [True] * 160
