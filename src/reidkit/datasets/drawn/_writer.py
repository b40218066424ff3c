"""Writing a drawn data set: pictures spread over processes, the folder whole or not at all."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from reidkit import disk
from reidkit.datasets.drawn._cameras import make_camera
from reidkit.datasets.drawn._pictures import draw_picture
from reidkit.datasets.drawn._plan import (
    GALLERY_FOLDER,
    QUERY_FOLDER,
    TRAIN_FOLDER,
    DrawnCounts,
    Job,
    plan_jobs,
)
from reidkit.errors import ArgumentError
from reidkit.machine import available_cores
from reidkit.records import Progress

MARKER = "drawn.json"
"""The recipe: in the root, where loaders of the layout do not look."""

VERSION = 1
"""Goes up whenever the same arguments give other pixels."""

_CHUNK = 32
_MINIMUM_PER_WORKER = 200
"""Fewer pictures are drawn sooner than another process starts."""


def draw_dataset(
    root: str | Path,
    *,
    people: int = 100,
    cameras: int = 6,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DrawnCounts:
    """Draw a data set in Market-1501 layout.

    `people` test people (ids from `people` + 1) and as many other train people (ids from 1) are
    each seen by 2 to 6 of the cameras: 4 to 8 train pictures, or one query and 2 to 4 gallery
    pictures per camera. Junk (id -1: background, half bodies, two people) adds 10 % to the
    gallery, distractors (id 0: people never queried, background) add 15 %. `drawn.json` in the
    root keeps the recipe.

    Args:
        root: the folder to make; it appears when it is complete.
        people: number of test people, and of train people.
        cameras: number of cameras, 2 to 99.
        seed: another one gives other people, cameras and streets; 0 to 2**32 - 1.
        workers: number of processes; by default one for each processor, or this one alone when
            there is little to draw. The pixels do not depend on it. As always with processes, a
            script that uses several keeps its own work under `if __name__ == "__main__":`.
        progress: called with the pictures done and the total.

    Raises:
        ArgumentError: an argument is outside its range, or `root` exists already.
    """
    _check_ranges(people, cameras, seed, workers)
    jobs, counts = plan_jobs(people, cameras, seed)
    recipe = {"version": VERSION, "people": people, "cameras": cameras, "seed": seed}
    with disk.new_folder(Path(root), marker=MARKER) as folder:
        done = 0
        for count in _write_all(folder, seed, jobs, workers):
            done += count
            if progress is not None:
                progress(done, len(jobs))
        disk.write_json(folder / MARKER, recipe | {"counts": dataclasses.asdict(counts)})
    return counts


def _write_all(folder: Path, seed: int, jobs: Sequence[Job], workers: int | None) -> Iterator[int]:
    """Write all pictures, giving the size of each part as it is done."""
    for name in (TRAIN_FOLDER, QUERY_FOLDER, GALLERY_FOLDER):
        (folder / name).mkdir(exist_ok=True)
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    wanted = workers or min(available_cores(), len(jobs) // _MINIMUM_PER_WORKER)
    if wanted <= 1:
        return (_write_chunk(folder, seed, chunk) for chunk in chunks)
    return _write_in_processes(folder, seed, chunks, min(wanted, len(chunks)))


def _write_in_processes(
    folder: Path, seed: int, chunks: Sequence[Sequence[Job]], workers: int
) -> Iterator[int]:
    # Started afresh, not forked: a caller may hold threads, and engines may hold locks in them.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        with _interrupts_held():
            futures: list[Future[int]] = [
                pool.submit(_write_chunk, folder, seed, chunk) for chunk in chunks
            ]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ArgumentError(
            f"the {workers} drawing processes ended early: keep your script's own work under "
            "`if __name__ == '__main__':`, or draw with workers=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends, and for good from the processes that it starts.

    A terminal sends it to all processes at once. Those that still import would die of it with a
    traceback each, and so would those whose start it interrupts halfway.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    came: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    # A mask is one thread's own: another may take the signal, and Python hands it to this one.
    noting = callable(handler) and threading.current_thread() is threading.main_thread()
    if noting:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if noting:
            signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


def _follow_parent() -> None:
    """Let Ctrl-C reach the caller's process alone, and end when that process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process as soon as the caller's does: a killed one cannot say goodbye."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _write_chunk(folder: Path, seed: int, jobs: Sequence[Job]) -> int:
    for path, shot in jobs:
        picture = Image.fromarray(draw_picture(seed, shot))
        picture.save(folder / path, quality=make_camera(seed, shot.camera).quality)
    return len(jobs)


def _check_ranges(people: int, cameras: int, seed: int, workers: int | None) -> None:
    _check_range("people", people, 1, 100_000)
    _check_range("cameras", cameras, 2, 99)
    _check_range("seed", seed, 0, 2**32 - 1)
    if workers is not None:
        _check_range("workers", workers, 1, 1024)


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ArgumentError(f"{name} is {value}, expected {low} to {high}")
