"""Killed in mid-run: an actor, a reading worker, the driver. No row is lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from reidkit.distributed import open_data_set
from reidkit.embedding import embed
from reidkit.models import load_model
from reidkit.records import Embeddings, Samples
from tests.pictures import skip_without, write_picture
from tests.test_benchmarking import write_fake

pytestmark = pytest.mark.slow

PICTURES, SIZE, BATCH = 320, 8, 8
PARTS = PICTURES // SIZE
DIFFERENT = 7
"""Different pictures: no two neighbouring parts are alike."""
LIMIT = 120
"""Seconds after which a run that does not come to its end is a failure."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that take long enough to decode for a run to be killed in its middle."""
    skip_without("ray")
    root = tmp_path_factory.mktemp("faults")
    write_fake(root / "package")
    (root / "pictures").mkdir()
    for number in range(DIFFERENT):
        write_picture(root / f"{number}.png", number, height=900, width=450)
    for number in range(PICTURES):
        os.link(root / f"{number % DIFFERENT}.png", root / "pictures" / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def local(folder: Path) -> Embeddings:
    paths = [str(path) for path in sorted((folder / "pictures").iterdir())]
    with load_model(folder / "package") as model:
        few = embed(model, Samples.from_paths(paths[:DIFFERENT]))
    # With this package a picture's vector does not depend on its batch.
    vectors = few.vectors[np.arange(PICTURES) % DIFFERENT]
    return Embeddings(vectors, Samples.from_paths(paths))


class Run:
    """`reidkit embed --engine ray --address local` in a process of its own."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.parts = out / "vectors"
        options = ["--part-size", str(SIZE), "--batch", str(BATCH), "-o", str(out)]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "reidkit", "embed"),
                *(str(folder / "package"), str(folder / "pictures")),
                *("--engine", "ray", "--address", "local", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def list_parts(self) -> list[Path]:
        return sorted(self.parts.glob("part-*.parquet")) if self.parts.exists() else []

    def wait_for(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT
        while not done():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.02)

    def wait_for_parts(self, count: int) -> None:
        self.wait_for(lambda: len(self.list_parts()) >= count)

    def kill(self, title: str) -> None:
        """Kill -9 the first worker of this run that does what `title` says."""
        self.wait_for(lambda: bool(list(self._find(title))))
        os.kill(next(self._find(title)), signal.SIGKILL)

    def _find(self, title: str) -> Iterator[int]:
        for process in _list_family(self.process.pid):
            try:
                name = Path(f"/proc/{process}/cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::") and title.encode() in name:
                yield process

    def finish(self) -> str:
        return self.process.communicate(timeout=LIMIT)[0]


def _list_family(process: int) -> list[int]:
    """List the processes below one, however deep."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    family = [process]
    for each in family:
        family += [child for child, parent in parents.items() if parent == each]
    return family


def expect_whole(out: Path, local: Embeddings) -> None:
    found = open_data_set(out).collect()
    assert found.samples.paths.tolist() == local.samples.paths.tolist()
    assert np.array_equal(found.vectors, local.vectors)


def test_whatever_is_killed_no_row_is_lost_or_doubled(
    folder: Path, local: Embeddings, tmp_path: Path
) -> None:
    run = Run(folder, tmp_path / "out")
    run.wait_for_parts(2)
    for worker in ("_Embedder", "_read"):
        run.kill(worker)
        run.wait_for_parts(len(run.list_parts()) + 2)
    run.process.kill()
    run.process.communicate()
    wait_until_quiet(run)
    times = {part: part.stat().st_mtime_ns for part in run.list_parts()}
    assert 6 <= len(times) < PARTS
    again = Run(folder, tmp_path / "out")
    output = again.finish()
    assert again.process.returncode == 0, output
    expect_whole(tmp_path / "out", local)
    assert {part: part.stat().st_mtime_ns for part in times} == times


def wait_until_quiet(run: Run) -> None:
    """Wait until the workers that outlive a killed driver for a moment write no more."""
    count = -1
    while count != len(run.list_parts()):
        count = len(run.list_parts())
        time.sleep(1)
