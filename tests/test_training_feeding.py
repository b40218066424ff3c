"""Batches read ahead: the right pictures, whatever the threads, the memory and the processes."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import ArgumentError, ImageError, ShapeError, UnreadableImagesError
from reidkit.records import Samples
from reidkit.training import _feeding
from reidkit.training._augmenting import change_into, draw_changes
from reidkit.training._feeding import Batch, Feeder
from reidkit.training._recipe import Recipe
from reidkit.training._sampling import plan_epoch
from tests.pictures import write_picture

PEOPLE, PICTURES = 12, 60
PICTURE_BYTES = 32 * 16 * 3
RECIPE = Recipe(height=32, width=16, padding=4, batch=24, instances=4, seed=3)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return make_samples(tmp_path_factory.mktemp("pictures"))


def make_samples(folder: Path) -> Samples:
    """Write pictures of several sizes."""
    folder.mkdir(exist_ok=True)
    paths = [
        write_picture(folder / f"{i:03}.{'png' if i % 5 else 'jpg'}", seed=i, height=30 + i)
        for i in range(PICTURES)
    ]
    people = np.arange(PICTURES) % PEOPLE
    return Samples.from_columns(paths, people + 1, people * 0)


def feeder(
    samples: Samples, recipe: Recipe = RECIPE, *, workers: int = 2, memory: int = 0
) -> Feeder:
    return Feeder(samples, samples.person_ids - 1, recipe, workers=workers, memory=memory)


def copied(batches: Iterator[Batch]) -> list[Batch]:
    return [dataclasses.replace(batch, pixels=batch.pixels.copy()) for batch in batches]


def same(first: list[Batch], second: list[Batch]) -> bool:
    fields = [field.name for field in dataclasses.fields(Batch)]
    return len(first) == len(second) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(first, second, strict=True)
        for name in fields
    )


def reader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("reidkit-feeder")]


def naive(samples: Samples, recipe: Recipe, epoch: int) -> Iterator[Batch]:
    """Make the batches of an epoch one picture after the other."""
    labels = samples.person_ids - 1
    for step, rows in enumerate(plan_epoch(labels, recipe, epoch=epoch)):
        seed = np.random.SeedSequence(recipe.seed, spawn_key=(1, epoch, step))
        changes = draw_changes(recipe.batch, recipe, np.random.default_rng(seed))
        pixels = np.empty((len(rows), recipe.height, recipe.width, 3), np.uint8)
        for i, row in enumerate(rows):
            resized = preprocess.resize(preprocess.decode(samples.paths[row]), recipe.contract)
            top, left = changes.corners[i].tolist()
            change_into(pixels[i], resized, flipped=bool(changes.flipped[i]), top=top, left=left)
        yield Batch(pixels, changes.erased, labels[rows], rows, samples.paths[rows])


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("memory", [0, 7 * PICTURE_BYTES + 5, 2**28])
def test_batches_do_not_depend_on_threads_memory_or_earlier_epochs(
    samples: Samples, workers: int, memory: int
) -> None:
    fed = feeder(samples, workers=workers, memory=memory)
    for epoch in (3, 1, 2, 3):
        batches = copied(fed.epoch(epoch))
        assert len(batches) >= 2
        assert same(batches, copied(naive(samples, RECIPE, epoch))), epoch


def test_changing_a_batch_does_not_change_later_ones(samples: Samples) -> None:
    """What a caller does to the pixels must not reach the pictures that are kept."""
    fed = feeder(samples, dataclasses.replace(RECIPE, padding=0), memory=2**28)
    before = copied(fed.epoch(1))
    for batch in fed.epoch(2):
        batch.pixels.fill(7)
    assert same(copied(fed.epoch(1)), before)


def test_a_batch_stays_as_it_is_until_the_next_is_wanted(samples: Samples) -> None:
    recipe = dataclasses.replace(RECIPE, batch=8, sampler="shuffle", metric_loss="none")
    expected = naive(samples, recipe, 1)
    for batch in feeder(samples, recipe).epoch(1):
        time.sleep(0.02)  # the threads read as far ahead as they may
        assert np.array_equal(batch.pixels, next(expected).pixels)


class SlowToFill(np.ndarray[tuple[int, ...], np.dtype[np.uint8]]):
    def __setitem__(self, place: object, value: object) -> None:
        time.sleep(0.02)
        super().__setitem__(place, value)  # type: ignore[call-overload]


def test_a_picture_that_several_threads_want_at_once_is_whole_for_each(samples: Samples) -> None:
    """Two people with one picture each fill a batch, so that all threads want the same two."""
    recipe = dataclasses.replace(RECIPE, batch=128, instances=64)
    two = samples.select(slice(0, 2))
    fed = feeder(two, recipe, workers=8, memory=2**28)
    fed._pictures = fed._pictures.view(SlowToFill)
    assert same(copied(fed.epoch(1)), copied(naive(two, recipe, 1)))


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_shares_of_all_processes_are_the_whole(samples: Samples, ranks: int) -> None:
    whole = copied(feeder(samples).epoch(2))
    shares = [copied(feeder(samples).epoch(2, rank, ranks)) for rank in range(ranks)]
    for step, batch in enumerate(whole):
        for field in dataclasses.fields(Batch):
            parts = [getattr(share[step], field.name) for share in shares]
            assert np.array_equal(np.concatenate(parts), getattr(batch, field.name)), field.name


def test_columns_have_their_types(samples: Samples) -> None:
    for batch in feeder(samples).epoch(1):
        columns = (batch.pixels, batch.erased, batch.labels, batch.rows)
        assert [c.shape for c in columns] == [(24, 32, 16, 3), (24, 4), (24,), (24,)]
        assert [c.dtype.name for c in columns] == [
            "uint8",
            "int64",
            "int64",
            np.dtype(np.intp).name,
        ]
        assert batch.paths.tolist() == samples.paths[batch.rows].tolist()
        assert batch.labels.tolist() == (samples.person_ids[batch.rows] - 1).tolist()


def test_epochs_and_pictures_differ_in_their_chance(samples: Samples) -> None:
    recipe = dataclasses.replace(RECIPE, erasing_probability=1)
    erased = np.concatenate([b.erased for e in (1, 2) for b in feeder(samples, recipe).epoch(e)])
    assert len(np.unique(erased, axis=0)) > 0.8 * len(erased)


def test_as_many_pictures_are_kept_as_fit(samples: Samples) -> None:
    for memory, most in ((0, 0), (7 * PICTURE_BYTES + 5, 7), (2**28, PICTURES)):
        fed = feeder(samples, memory=memory)
        assert fed.kept == 0
        for epoch in range(1, 9):
            copied(fed.epoch(epoch))
        assert fed.kept == most


def test_kept_pictures_are_not_read_again(samples: Samples, tmp_path: Path) -> None:
    moved = make_samples(tmp_path / "moved")
    fed = feeder(moved, memory=2**28)
    for epoch in range(1, 9):
        copied(fed.epoch(epoch))
    for path in moved.paths:
        Path(path).unlink()
    pixels = [batch.pixels for batch in copied(fed.epoch(9))]
    expected = [batch.pixels for batch in copied(feeder(samples).epoch(9))]
    assert np.array_equal(pixels, expected)


@pytest.fixture
def damaged(tmp_path: Path) -> Samples:
    """Pictures of which four cannot be read, one for each of four people."""
    made = make_samples(tmp_path / "damaged")
    Path(made.paths[1]).write_bytes(b"no picture")
    data = Path(made.paths[5]).read_bytes()
    Path(made.paths[5]).write_bytes(data[: len(data) // 2])
    Path(made.paths[26]).unlink()
    Path(made.paths[59]).write_bytes(b"")
    return made


@pytest.mark.parametrize("memory", [0, 2**28])
def test_all_unreadable_pictures_are_named_at_the_first(damaged: Samples, memory: int) -> None:
    fed = feeder(damaged, memory=memory)
    with pytest.raises(UnreadableImagesError, match="4 of 60 pictures") as caught:
        copied(fed.epoch(1))
    named = [image.path for image in caught.value.images]
    assert named == damaged.paths[[1, 5, 26, 59]].tolist()
    assert "\n" not in str(caught.value)
    assert reader_threads() == []


def test_a_picture_unreadable_only_once_is_named_all_the_same(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = preprocess.decode
    failed: list[str] = []

    def once(path: str) -> NDArray[np.uint8]:
        if not failed:
            failed.append(path)
            raise ImageError(path, "Stale file handle")
        return real(path)

    monkeypatch.setattr(preprocess, "decode", once)
    with pytest.raises(UnreadableImagesError, match=r"1 of 60 .*Stale file handle"):
        copied(feeder(samples, workers=1).epoch(1))


def test_an_error_in_a_thread_reaches_the_caller(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(preprocess, "resize", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        copied(feeder(samples).epoch(1))
    assert reader_threads() == []


@pytest.mark.skipif(os.name == "nt", reason="threads are signalled differently on Windows")
def test_ctrl_c_while_waiting_reaches_the_caller(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, real = threading.main_thread().ident, preprocess.decode
    assert main is not None
    released = threading.Event()

    def interrupting(path: str) -> NDArray[np.uint8]:
        if not released.is_set():
            time.sleep(0.05)
            signal.pthread_kill(main, signal.SIGINT)
            released.set()
        return real(path)

    monkeypatch.setattr(preprocess, "decode", interrupting)
    with pytest.raises(KeyboardInterrupt):
        copied(feeder(samples, workers=1).epoch(1))
    assert reader_threads() == []


def test_stopping_early_ends_the_threads_and_their_work(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, decoded = preprocess.decode, []

    def counting(path: str) -> NDArray[np.uint8]:
        decoded.append(path)
        return real(path)

    monkeypatch.setattr(preprocess, "decode", counting)
    recipe = dataclasses.replace(RECIPE, batch=8, sampler="shuffle", metric_loss="none")
    with closing(feeder(samples, recipe, workers=1).epoch(1)) as batches:
        next(batches)
        assert reader_threads() != []
    assert reader_threads() == []
    assert len(decoded) <= 8 * 4, "it went on reading"
    for _ in feeder(samples, recipe).epoch(1):
        break
    assert reader_threads() == []


def test_nothing_is_read_before_the_first_batch_is_wanted(damaged: Samples) -> None:
    batches = feeder(damaged).epoch(1)
    assert reader_threads() == []
    batches.close()


def test_waiting_for_slow_pictures_counts(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed, real = feeder(samples, workers=1), preprocess.decode

    def slowly(path: str) -> NDArray[np.uint8]:
        time.sleep(0.005)
        return real(path)

    monkeypatch.setattr(preprocess, "decode", slowly)
    assert fed.waited == 0
    copied(fed.epoch(1))
    assert fed.waited > 0
    batches = fed.epoch(2)
    assert fed.waited == 0, "it is the latest epoch's"
    batches.close()


def test_what_the_caller_does_meanwhile_is_no_waiting(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that the caller alone moves nobody ever waits."""
    now = 0.0
    monkeypatch.setattr(_feeding, "time", SimpleNamespace(perf_counter=lambda: now))
    fed = feeder(samples)
    for _ in fed.epoch(1):
        now += 1000
    assert fed.waited == 0


def test_memory_does_not_grow_with_the_data_set(samples: Samples) -> None:
    """Ten times the pictures may cost a little more, but not ten times the memory."""
    recipe = dataclasses.replace(RECIPE, height=128, width=64, batch=8)

    def peak(times: int) -> int:
        paths, people = samples.paths.tolist() * times, np.tile(samples.person_ids, times)
        many = Samples.from_columns(paths, people, people)
        tracemalloc.start()
        for _ in feeder(many, recipe).epoch(1):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few = peak(1)
    assert peak(10) < 2 * few


def test_arguments_are_checked_at_once(samples: Samples) -> None:
    with pytest.raises(ShapeError, match=r"labels are \(59,\) int64, expected \(60,\) int64"):
        Feeder(samples, samples.person_ids[1:], RECIPE)
    with pytest.raises(ShapeError, match=r"labels are \(60,\) float64"):
        Feeder(samples, samples.person_ids.astype(float), RECIPE)
    with pytest.raises(ArgumentError, match="workers is 0, expected at least 1"):
        feeder(samples, workers=0)
    with pytest.raises(ArgumentError, match="cannot be split among 5 processes"):
        feeder(samples).epoch(1, 0, 5)


def test_workers_are_one_a_core_where_nothing_else_is_said(samples: Samples) -> None:
    fed = Feeder(samples, samples.person_ids - 1, RECIPE)
    assert same(copied(fed.epoch(1)), copied(feeder(samples).epoch(1)))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_steps_are_counted_beforehand(samples: Samples, epoch: int) -> None:
    fed = feeder(samples)
    assert fed.count_steps(epoch) == len(list(fed.epoch(epoch)))
    assert fed.count_steps(epoch) == len(list(fed.epoch(epoch, 1, 2)))
