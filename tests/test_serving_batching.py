"""Every request gets its own rows' vectors, whatever happens to the others."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.errors import ArgumentError, EngineError, ShapeError
from reidkit.models import Model
from reidkit.package import Inputs, Takes
from reidkit.serving._batching import Batcher, BatchLimits, EngineRun, Overloaded
from tests.pictures import SMALL, fake_model

SIZE = 8
SHAPE = (3, 32, 16)


class Engine:
    """A runtime whose vector names its picture; it can be held up, fail, and give NaN."""

    name = "gate"
    device = "cpu"
    takes: Takes = "tensor"

    def __init__(self, batch: int | None = None) -> None:
        self.batch = batch
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._alone = threading.Lock()

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Number n -> (n, n + 1, ...); -1 fails, -2 is NaN, -3 is a bug."""
        assert self._alone.acquire(blocking=False), "two runs at once"
        try:
            self.sizes.append(len(inputs))
            self.entered.set()
            assert self.gate.wait(10)
            numbers = inputs[:, 0, 0, 0].astype(np.float32)
            if (numbers == -1).any():
                raise EngineError("the engine is on fire")
            if (numbers == -3).any():
                raise ZeroDivisionError
            vectors: NDArray[np.float32] = expected(*numbers)
            vectors[numbers == -2] = np.nan
            return vectors
        finally:
            self._alone.release()

    def close(self) -> None:
        """Nothing to give back."""


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.runs: list[EngineRun] = []
        self.rejected: list[str] = []

    def observe_run(self, run: EngineRun) -> None:
        self.runs.append(run)

    def reject(self, reason: str) -> None:
        self.rejected.append(reason)


def model_of(engine: Engine) -> Model:
    contract = dataclasses.replace(SMALL, unit_length=False)
    return Model(fake_model(SIZE, batch=engine.batch, contract=contract).spec, engine)


def rows(*numbers: float) -> NDArray[np.float32]:
    inputs = np.zeros((len(numbers), *SHAPE), np.float32)
    inputs[:, 0, 0, 0] = numbers
    return inputs


def expected(*numbers: float) -> NDArray[np.float32]:
    first = np.array(numbers, np.float32)[:, None]
    return np.add(first, np.arange(SIZE, dtype=np.float32), dtype=np.float32)


def run(
    test: Callable[[Batcher, Engine], Coroutine[Any, Any, None]],
    limits: BatchLimits | None = None,
    engine: Engine | None = None,
    notes: Notes | None = None,
) -> Engine:
    """Run a test with a batcher that is stopped afterwards."""
    engine = engine or Engine()

    async def whole() -> None:
        batcher = Batcher(model_of(engine), limits=limits, observe=notes)
        await batcher.start()
        try:
            await asyncio.wait_for(test(batcher, engine), 20)
        finally:
            engine.gate.set()
            await batcher.stop()
        assert batcher.queued == 0

    asyncio.run(whole())
    return engine


async def hold_up(batcher: Batcher, engine: Engine) -> asyncio.Task[NDArray[np.float32]]:
    """Keep the engine busy with one picture until its gate opens."""
    engine.gate.clear()
    engine.entered.clear()
    task = asyncio.create_task(batcher.embed(rows(500)))
    assert await asyncio.to_thread(engine.entered.wait, 10)
    return task


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(st.integers(0, 11), min_size=1, max_size=12),
    batch=st.integers(1, 6),
    fixed=st.booleans(),
    cancelled=st.sets(st.integers(0, 11)),
)
def test_every_request_gets_exactly_its_own_rows(
    requests: list[int], batch: int, fixed: bool, cancelled: set[int]
) -> None:
    numbers = iter(range(10_000))
    asked = [tuple(next(numbers) for _ in range(count)) for count in requests]

    async def test(batcher: Batcher, engine: Engine) -> None:
        tasks = [asyncio.create_task(batcher.embed(rows(*mine))) for mine in asked]
        await asyncio.sleep(0)
        for index in cancelled:
            if index < len(tasks):
                tasks[index].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for mine, answer in zip(asked, answers, strict=True):
            if isinstance(answer, asyncio.CancelledError):
                continue
            assert isinstance(answer, np.ndarray), answer
            assert answer.dtype == np.float32
            assert np.array_equal(answer, expected(*mine).reshape(-1, SIZE))

    limits = BatchLimits(batch=None if fixed else batch, wait=0.001)
    engine = run(test, limits, Engine(batch if fixed else None))
    assert all(size == batch if fixed else size <= batch for size in engine.sizes)


@settings(max_examples=25, deadline=None)
@given(
    requests=st.lists(
        st.lists(st.sampled_from([1, 2, 3, -1, -2, -3]), min_size=1, max_size=5),
        min_size=1,
        max_size=8,
    ),
    batch=st.integers(1, 4),
)
def test_failures_reach_their_own_callers_and_the_batcher_lives_on(
    requests: list[list[int]], batch: int
) -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        answers = await asyncio.gather(
            *(batcher.embed(rows(*mine)) for mine in requests), return_exceptions=True
        )
        for mine, answer in zip(requests, answers, strict=True):
            if min(mine) < 0:
                assert isinstance(answer, EngineError)
            elif isinstance(answer, np.ndarray):
                assert np.array_equal(answer, expected(*mine))
            else:
                assert isinstance(answer, EngineError)  # it shared a run with one that failed
                assert batch > 1
        assert np.array_equal(await batcher.embed(rows(7)), expected(7))

    run(test, BatchLimits(batch=batch, wait=0))


def test_nan_is_an_error_for_its_own_request_alone() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)
        tasks = [asyncio.create_task(batcher.embed(rows(n))) for n in (1, -2, 3)]
        await until(lambda: batcher.queued == 3)
        engine.gate.set()
        answers = await asyncio.gather(busy, *tasks, return_exceptions=True)
        assert np.array_equal(answers[1], expected(1))  # type: ignore[arg-type]
        assert isinstance(answers[2], EngineError)
        assert "NaN" in str(answers[2])
        assert np.array_equal(answers[3], expected(3))  # type: ignore[arg-type]

    assert run(test).sizes == [1, 3]


def test_what_waits_together_runs_together() -> None:
    notes = Notes()

    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)
        assert batcher.busy_seconds > 0
        tasks = [asyncio.create_task(batcher.embed(rows(n, n + 100))) for n in range(10)]
        await until(lambda: batcher.queued == 20)
        engine.gate.set()
        for n, answer in enumerate(await asyncio.gather(*tasks)):
            assert np.array_equal(answer, expected(n, n + 100))
        await busy

    assert run(test, notes=notes).sizes == [1, 16, 4]
    assert [run.rows for run in notes.runs] == [1, 16, 4]
    assert [len(run.waits) for run in notes.runs] == [1, 8, 2]
    assert not any(run.failed for run in notes.runs)


def test_those_that_just_got_their_answers_are_waited_for() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)

        async def client(n: int) -> None:
            for _ in range(5):
                assert np.array_equal(await batcher.embed(rows(n)), expected(n))

        clients = [asyncio.create_task(client(n)) for n in range(4)]
        await until(lambda: batcher.queued == 4)
        engine.gate.set()
        await asyncio.gather(busy, *clients)

    assert run(test, BatchLimits(wait=0.5)).sizes == [1, 4, 4, 4, 4, 4]


def test_a_request_larger_than_a_batch_is_split() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        assert np.array_equal(await batcher.embed(rows(*range(10))), expected(*range(10)))

    assert run(test, BatchLimits(batch=4)).sizes == [4, 4, 2]


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room() -> None:
    notes = Notes()

    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)
        waiting = asyncio.create_task(batcher.embed(rows(1, 2, 3)))
        await until(lambda: batcher.queued == 3)
        with pytest.raises(Overloaded) as refused:
            await batcher.embed(rows(4, 5))
        assert refused.value.reason == "queue"
        assert 1 <= refused.value.retry_after <= 60
        assert batcher.queued == 3
        last = asyncio.create_task(batcher.embed(rows(6)))
        await until(lambda: batcher.queued == 4)
        engine.gate.set()
        await asyncio.gather(busy, waiting, last)
        assert np.array_equal(await batcher.embed(rows(4, 5)), expected(4, 5))

    run(test, BatchLimits(queue=4), notes=notes)
    assert notes.rejected == ["queue"]


def test_the_deadline_ends_waiting_and_frees_the_queue() -> None:
    notes = Notes()

    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)
        with pytest.raises(Overloaded, match="in time") as refused:
            await batcher.embed(rows(1))
        assert refused.value.reason == "deadline"
        assert batcher.queued == 0
        engine.gate.set()
        # The one that the engine was at already is answered, however late.
        assert np.array_equal(await busy, expected(500))

    assert run(test, BatchLimits(deadline=0.05), notes=notes).sizes == [1]
    assert notes.rejected == ["deadline"]


def test_cancelled_requests_leave_the_queue() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)
        tasks = [asyncio.create_task(batcher.embed(rows(n))) for n in range(3)]
        await until(lambda: batcher.queued == 3)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        assert batcher.queued == 2
        busy.cancel()
        engine.gate.set()
        assert np.array_equal(await tasks[2], expected(2))
        await tasks[0]

    assert run(test).sizes == [1, 2]


def test_stopping_answers_what_waits_and_refuses_the_rest() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        busy = await hold_up(batcher, engine)
        waiting = asyncio.create_task(batcher.embed(rows(*range(40))))
        await until(lambda: batcher.queued == 40)
        stopping = asyncio.create_task(batcher.stop())
        await until(lambda: not batcher.running)
        with pytest.raises(Overloaded, match="stopping"):
            await batcher.embed(rows(1))
        assert not stopping.done()
        engine.gate.set()
        await stopping
        assert np.array_equal(await waiting, expected(*range(40)))
        await busy
        await batcher.stop()

    run(test)


def test_it_can_be_started_again() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        await batcher.start()
        await batcher.stop()
        await batcher.start()
        assert np.array_equal(await batcher.embed(rows(1)), expected(1))

    run(test)


def test_it_takes_nothing_before_the_start() -> None:
    batcher = Batcher(fake_model())
    with pytest.raises(Overloaded, match="stopping"):
        asyncio.run(batcher.embed(rows(1)))


def test_other_arrays_are_refused() -> None:
    async def test(batcher: Batcher, engine: Engine) -> None:
        with pytest.raises(ShapeError, match=r"takes float32 \(n, 3, 32, 16\)"):
            await batcher.embed(np.zeros((1, 32, 16, 3), np.uint8))
        with pytest.raises(ShapeError):
            await batcher.embed(np.zeros((1, 3, 16, 32), np.float32))
        with pytest.raises(ArgumentError, match="at most 4"):
            await batcher.embed(rows(*range(5)))

    assert run(test, BatchLimits(queue=4)).sizes == []


def test_limits_are_checked() -> None:
    for wrong in ({"batch": 0}, {"queue": 0}, {"wait": -1}, {"deadline": 0}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            BatchLimits(**wrong)
    with pytest.raises(ArgumentError, match="batches of 4 only"):
        Batcher(model_of(Engine(4)), limits=BatchLimits(batch=8))
    assert Batcher(model_of(Engine(4))).batch == 4
    assert Batcher(model_of(Engine())).batch == 16
