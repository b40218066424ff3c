from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit import preprocess, store
from reidkit.embedding import choose_batch, embed, embed_into, plan_embeddings
from reidkit.errors import (
    ArgumentError,
    EngineError,
    MismatchError,
    StoreError,
    UnreadableImagesError,
)
from reidkit.models import Model
from reidkit.package import Inputs, InputSpec, Takes
from reidkit.records import Embeddings, Samples
from reidkit.store import EmbeddingsWriter, Shard, merge_embeddings
from tests.pictures import SMALL, fake_model, write_samples


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return write_samples(tmp_path_factory.mktemp("pictures"), 23)


def naive(model: Model, samples: Samples) -> NDArray[np.float32]:
    """Embed one picture after the other."""
    rows = []
    for path in samples.paths:
        (vector,) = model.runtime.run(preprocess.load_batch([path], model.contract))
        rows.append(vector / np.linalg.norm(vector))
    return np.array(rows, np.float32)


def into(
    folder: Path,
    model: Model,
    samples: Samples,
    batch: int,
    skip_unreadable: bool = False,
    shard: Shard | None = None,
) -> Embeddings:
    with EmbeddingsWriter(folder, samples, plan_embeddings(model, batch=batch), shard) as writer:
        return embed_into(writer, model, skip_unreadable=skip_unreadable)


def into_shards(folder: Path, model: Model, samples: Samples, batch: int, count: int) -> list[Path]:
    """Embed shard by shard, leaving out what is unreadable; give the folders."""
    parts = []
    for index in range(1, count + 1):
        parts.append(folder / f"{index}")
        into(parts[-1], model, samples, batch, skip_unreadable=True, shard=Shard(index, count))
    return parts


def same_files(a: Path, b: Path) -> bool:
    names = ("manifest.json", "samples.csv", "vectors.npy")
    return [(a / name).read_bytes() for name in names] == [
        (b / name).read_bytes() for name in names
    ]


@pytest.mark.parametrize("batch", [1, 2, 5, 23, 64])
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_come_back_in_sample_order(samples: Samples, batch: int, workers: int) -> None:
    model = fake_model()
    made = embed(model, samples, batch=batch, workers=workers)
    np.testing.assert_allclose(made.vectors, naive(model, samples), rtol=1e-6)
    assert made.samples.paths.tolist() == samples.paths.tolist()
    assert (made.model_sha256, made.contract_sha256) == (model.sha256, model.contract.sha256)


@pytest.mark.parametrize("batch", [4, 16, 32])
def test_a_short_last_batch_is_padded_for_a_fixed_batch_engine(
    samples: Samples, batch: int
) -> None:
    fixed = embed(fake_model(batch=batch), samples)
    assert np.array_equal(fixed.vectors, embed(fake_model(), samples, batch=batch).vectors)


def test_the_batch_size_is_checked() -> None:
    assert choose_batch(fake_model(batch=4), None) == 4
    assert choose_batch(fake_model(batch=4), 4) == 4
    assert choose_batch(fake_model(), 7) == 7
    with pytest.raises(ArgumentError, match="takes batches of 4 only"):
        choose_batch(fake_model(batch=4), 8)
    with pytest.raises(ArgumentError, match="batch is 0, expected at least 1"):
        choose_batch(fake_model(), 0)


def test_workers_are_checked(samples: Samples) -> None:
    with pytest.raises(ArgumentError, match="workers is 0"):
        embed(fake_model(), samples, workers=0)


def test_no_pictures_give_no_rows() -> None:
    assert embed(fake_model(), Samples.from_paths([])).vectors.shape == (0, 8)


def test_vectors_have_unit_length_if_the_contract_says_so(samples: Samples) -> None:
    lengths = np.linalg.norm(embed(fake_model(), samples).vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
    plain = fake_model(contract=dataclasses.replace(SMALL, unit_length=False))
    assert np.linalg.norm(embed(plain, samples).vectors, axis=1).std() > 0.01


def test_flip_averages_with_the_mirror_image(samples: Samples) -> None:
    model = fake_model().with_flip()
    made = embed(model, samples)
    inputs = preprocess.load_batch(samples.paths.tolist(), model.contract)
    both = model.runtime.run(inputs) + model.runtime.run(inputs[:, :, :, ::-1])
    expected = both / np.linalg.norm(both, axis=1, keepdims=True)
    np.testing.assert_allclose(made.vectors, expected, rtol=1e-5, atol=1e-6)
    assert made.contract_sha256 != fake_model().contract.sha256


def test_progress_ends_at_the_total(samples: Samples) -> None:
    calls: list[tuple[int, int]] = []
    embed(fake_model(), samples, batch=10, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(10, 23), (20, 23), (23, 23)]


@pytest.fixture
def damaged(tmp_path: Path) -> Samples:
    """Ten pictures, of which three cannot be read."""
    made = write_samples(tmp_path / "damaged", 10)
    Path(made.paths[1]).write_bytes(b"no picture")
    data = Path(made.paths[4]).read_bytes()
    Path(made.paths[4]).write_bytes(data[: len(data) // 2])
    Path(made.paths[9]).unlink()
    return made


def test_all_unreadable_pictures_are_named(damaged: Samples) -> None:
    with pytest.raises(UnreadableImagesError, match="3 of 10 pictures") as caught:
        embed(fake_model(), damaged, batch=4)
    assert [image.path for image in caught.value.images] == damaged.paths[[1, 4, 9]].tolist()
    assert "\n" not in str(caught.value)


def test_unreadable_pictures_can_be_left_out(damaged: Samples, tmp_path: Path) -> None:
    model, keep = fake_model(), [0, 2, 3, 5, 6, 7, 8]
    for made in (
        embed(model, damaged, batch=4, skip_unreadable=True),
        into(tmp_path / "e", model, damaged, 4, skip_unreadable=True),
    ):
        assert made.samples.paths.tolist() == damaged.paths[keep].tolist()
        assert [image.path for image in made.unreadable] == damaged.paths[[1, 4, 9]].tolist()
        good = embed(model, damaged.select(np.array(keep)))
        np.testing.assert_allclose(made.vectors, good.vectors, rtol=1e-6)


def test_nothing_readable_is_an_error_even_then(tmp_path: Path) -> None:
    missing = Samples.from_paths([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")])
    with pytest.raises(UnreadableImagesError, match="2 of 2"):
        embed(fake_model(), missing, skip_unreadable=True)


def test_a_failed_folder_goes_on_once_the_pictures_are_repaired(
    damaged: Samples, tmp_path: Path
) -> None:
    folder, model = tmp_path / "e", fake_model()
    with pytest.raises(UnreadableImagesError):
        into(folder, model, damaged, 4)
    assert not (folder / store.MANIFEST).exists()
    for row in (1, 4, 9):
        Path(damaged.paths[row]).write_bytes(Path(damaged.paths[0]).read_bytes())
    made = into(folder, model, damaged, 4)
    assert made.unreadable == ()
    assert np.array_equal(made.vectors, embed(model, damaged, batch=4).vectors)


def test_a_folder_finished_without_pictures_is_not_taken_for_a_whole_one(
    damaged: Samples, tmp_path: Path
) -> None:
    folder, model = tmp_path / "e", fake_model()
    into(folder, model, damaged, 4, skip_unreadable=True)
    assert len(into(folder, model, damaged, 4, skip_unreadable=True)) == 7
    with pytest.raises(UnreadableImagesError, match="3 of 10"):
        into(folder, model, damaged, 4)
    Path(damaged.paths[9]).write_bytes(Path(damaged.paths[0]).read_bytes())
    with pytest.raises(MismatchError, match="before they changed on disk"):
        into(folder, model, damaged, 4, skip_unreadable=True)


def test_pictures_that_changed_are_computed_again(tmp_path: Path) -> None:
    made = write_samples(tmp_path / "pictures", 8)
    folder, model = tmp_path / "e", fake_model()
    with (
        EmbeddingsWriter(folder, made, plan_embeddings(model, batch=2)) as writer,
        pytest.raises(KeyboardInterrupt),
    ):
        embed_into(writer, model, progress=interrupt_after(5))
    Path(made.paths[0]).write_bytes(Path(made.paths[7]).read_bytes())
    resumed = into(folder, model, made, 2)
    assert np.array_equal(resumed.vectors, embed(model, made, batch=2).vectors)


class Company:
    """A runtime that gives a picture another vector in another batch, as engines do a little."""

    name, device, batch = "company", "cpu", None
    takes: Takes = "tensor"

    def __init__(self) -> None:
        self.fake = fake_model().runtime

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self.fake.run(inputs)
        vectors += vectors.mean(axis=0) * len(inputs)
        return vectors

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("total", "batch", "count"), [(23, 4, 3), (23, 5, 2), (22, 2, 1), (9, 4, 8), (0, 4, 2)]
)
def test_merged_shards_are_the_bytes_of_a_run_in_one_piece(
    samples: Samples, tmp_path: Path, total: int, batch: int, count: int
) -> None:
    model = Model(fake_model().spec, Company())
    some = samples.select(slice(0, total))
    into(tmp_path / "whole", model, some, batch)
    parts = into_shards(tmp_path / "parts", model, some, batch, count)
    merge_embeddings(reversed(parts), tmp_path / "all")
    assert same_files(tmp_path / "all", tmp_path / "whole")
    rows = [len(store.read_embeddings(part)) for part in parts]
    assert (0 in rows) == (count > -(-total // batch))


def test_a_merged_folder_is_finished_for_the_run_in_one_piece(
    samples: Samples, tmp_path: Path
) -> None:
    merge_embeddings(into_shards(tmp_path / "parts", fake_model(), samples, 4, 3), tmp_path / "all")
    failing = Failing(after=0)
    failing.name = "fake"
    again = into(tmp_path / "all", Model(fake_model().spec, failing), samples, 4)
    assert np.array_equal(again.vectors, embed(fake_model(), samples, batch=4).vectors)


def test_unreadable_pictures_across_shards(damaged: Samples, tmp_path: Path) -> None:
    """Pictures 1, 4 and 9 of 10; at two a batch, the last shard of five is 8 and 9."""
    model = fake_model()
    with pytest.raises(UnreadableImagesError, match="1 of 2 pictures"):
        into(tmp_path / "parts" / "5", model, damaged, 2, shard=Shard(5, 5))
    parts = into_shards(tmp_path / "parts", model, damaged, 2, 5)
    lost = [len(store.read_embeddings(part).unreadable) for part in parts]
    assert lost == [1, 0, 1, 0, 1]
    merge_embeddings(parts, tmp_path / "all")
    into(tmp_path / "whole", model, damaged, 2, skip_unreadable=True)
    assert same_files(tmp_path / "all", tmp_path / "whole")


def test_a_shard_may_be_unreadable_where_the_whole_is_not(damaged: Samples, tmp_path: Path) -> None:
    model = fake_model()
    parts = into_shards(tmp_path / "parts", model, damaged, 1, 10)
    assert len(into(parts[9], model, damaged, 1, skip_unreadable=True, shard=Shard(10, 10))) == 0
    merge_embeddings(parts, tmp_path / "all")
    into(tmp_path / "whole", model, damaged, 1, skip_unreadable=True)
    assert same_files(tmp_path / "all", tmp_path / "whole")
    bad = damaged.select(np.array([1, 4]))
    with pytest.raises(UnreadableImagesError, match="2 of 2"):
        into_shards(tmp_path / "bad", model, bad, 1, 1)


class Failing:
    """A runtime that fails after some batches, or gives NaN."""

    name, device, batch = "failing", "cpu", None
    takes: Takes = "tensor"

    def __init__(self, after: int, value: float | None = None) -> None:
        self.after, self.value, self.calls = after, value, 0

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        self.calls += 1
        if self.calls > self.after and self.value is None:
            raise EngineError("the device went away")
        bad = self.calls > self.after and self.value
        return np.full((len(inputs), 8), bad or self.calls, np.float32)

    def close(self) -> None:
        pass


def test_an_engine_error_reaches_the_caller_and_the_readers_stop(samples: Samples) -> None:
    model = Model(fake_model().spec, Failing(after=2))
    with pytest.raises(EngineError, match="went away"):
        embed(model, samples, batch=2)
    assert not [t for t in threading.enumerate() if t.name.startswith("reidkit-reader")]


def test_nan_is_an_engine_error_that_names_a_picture(samples: Samples) -> None:
    model = Model(fake_model().spec, Failing(after=1, value=float("nan")))
    with pytest.raises(
        EngineError, match=r"NaN or infinity for 4 pictures of a batch, first .*0004\.jpg"
    ):
        embed(model, samples, batch=4)


def test_an_error_in_a_reader_thread_reaches_the_caller(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, takes: Takes) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(preprocess, "load_image", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        embed(fake_model(), samples)


def test_a_vector_of_another_length_is_refused(samples: Samples) -> None:
    spec = dataclasses.replace(fake_model().spec, embedding_size=9)
    with pytest.raises(EngineError, match="length 8, its package says 9"):
        embed(Model(spec, fake_model().runtime), samples)


def test_memory_does_not_grow_with_the_data_set(samples: Samples) -> None:
    """Ten times the pictures may cost a little more, but not ten times the memory."""
    contract = InputSpec(height=128, width=64)
    many = Samples.from_paths(samples.paths.tolist() * 20)

    def peak(pictures: Samples) -> int:
        tracemalloc.start()
        embed(fake_model(contract=contract), pictures, batch=8, workers=2)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few = peak(many.select(slice(0, 46)))
    assert peak(many) < 1.5 * few


def test_an_interrupted_folder_resumes_to_the_same_bytes(samples: Samples, tmp_path: Path) -> None:
    folder, model = tmp_path / "e", fake_model()
    unbroken = into(tmp_path / "whole", model, samples, 4)
    with (
        EmbeddingsWriter(folder, samples, plan_embeddings(model, batch=4)) as writer,
        pytest.raises(KeyboardInterrupt),
    ):
        embed_into(writer, model, progress=interrupt_after(9))
    assert 0 < len(writer.pending) < 6
    calls: list[int] = []
    with EmbeddingsWriter(folder, samples, plan_embeddings(model, batch=4)) as writer:
        made = embed_into(writer, model, progress=lambda done, _: calls.append(done))
    assert calls[0] >= 8, "what was on disk was computed again"
    assert made.vectors.tobytes() == unbroken.vectors.tobytes()
    whole, resumed = (tmp_path / name / "vectors.npy" for name in ("whole", "e"))
    assert whole.read_bytes() == resumed.read_bytes()


class interrupt_after:  # noqa: N801 - reads as a function
    def __init__(self, pictures: int) -> None:
        self.pictures = pictures

    def __call__(self, done: int, _: int) -> None:
        if done > self.pictures:
            raise KeyboardInterrupt


KILLED = """
import sys, time
from pathlib import Path
import tests.pictures as pictures
from reidkit.embedding import embed_into, plan_embeddings
from reidkit.records import Samples
from reidkit.store import EmbeddingsWriter, Shard, merge_embeddings

folder, *paths = sys.argv[1:]
model = pictures.fake_model()
samples = Samples.from_paths(paths)

def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.05)

with EmbeddingsWriter(folder, samples, plan_embeddings(model, batch=2)) as writer:
    embed_into(writer, model, progress=slowly)
"""


def start(folder: Path, samples: Samples, code: str = KILLED) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *samples.paths],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


@pytest.mark.parametrize("after", [0, 4, 14])
def test_a_killed_process_resumes_to_the_same_bytes(
    samples: Samples, tmp_path: Path, after: int
) -> None:
    """Kill a real process with SIGKILL in mid-run, then run the same thing again."""
    folder = tmp_path / "e"
    process = start(folder, samples)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= after:
            break
    process.kill()
    process.wait()
    process.stdout.close()
    assert not (folder / store.MANIFEST).exists()

    again = start(folder, samples)
    printed = [int(line) for line in again.communicate()[0].split()]
    assert again.returncode == 0
    assert printed[0] >= after, "what was on disk was computed again"
    expected = embed(fake_model(), samples, batch=2).vectors
    assert store.read_embeddings(folder).vectors.tobytes() == expected.tobytes()


def test_a_killed_shard_resumes_and_merges_to_the_same_bytes(
    samples: Samples, tmp_path: Path
) -> None:
    pictures, model = Samples.from_paths(samples.paths.tolist()), fake_model()
    folder = tmp_path / "parts" / "2"
    code = KILLED.replace("batch=2)", "batch=2), Shard(2, 3)")
    code = code.replace("import EmbeddingsWriter", "import EmbeddingsWriter, Shard")
    code = code.replace("0.05", "0 if done < 4 else 600")
    process = start(folder, pictures, code)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 4:
            break
    process.kill()
    process.wait()
    process.stdout.close()
    with pytest.raises(StoreError, match=f"{folder} is unfinished"):
        merge_embeddings([folder], tmp_path / "all")
    plan = plan_embeddings(model, batch=2)
    with pytest.raises(MismatchError, match=r"another shard \(2/3, not 3/3\)"):
        EmbeddingsWriter(folder, pictures, plan, Shard(3, 3))
    with EmbeddingsWriter(folder, pictures, plan, Shard(2, 3)) as writer:
        assert writer.pending == [4, 6], "what was on disk is computed again"
    merge_embeddings(into_shards(tmp_path / "parts", model, pictures, 2, 3), tmp_path / "all")
    into(tmp_path / "whole", model, pictures, 2)
    assert same_files(tmp_path / "all", tmp_path / "whole")


CRASH = """
import os, sys

calls = 0

def crash_in(name):
    real = getattr(os, name)

    def wrapped(*arguments, **options):
        global calls
        calls += 1
        if calls == crash_at:
            os._exit(9)
        return real(*arguments, **options)

    setattr(os, name, wrapped)

crash_at = int(sys.argv.pop(1))
"""


def crash_at(call: int, folder: Path, samples: Samples) -> int:
    """Embed in a process that dies, without any cleaning up, at its n-th call to the disk."""
    watched = "".join(f"crash_in({name!r})\n" for name in ("fsync", "replace", "unlink", "mkdir"))
    quick = KILLED.replace("time.sleep(0.05)", "pass")
    code = CRASH + quick.replace("folder, *paths", watched + "folder, *paths")
    done = subprocess.run(
        [sys.executable, "-c", code, str(call), str(folder), *samples.paths],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode in (0, 9), done.stderr
    return done.returncode


@pytest.mark.slow
def test_a_crash_at_any_call_to_the_disk_resumes(samples: Samples, tmp_path: Path) -> None:
    few = Samples.from_paths(samples.paths[:6].tolist())
    expected = embed(fake_model(), few, batch=2).vectors
    for call in range(1, 40):
        folder = tmp_path / str(call)
        survived = crash_at(call, folder, few) == 0
        with EmbeddingsWriter(folder, few, plan_embeddings(fake_model(), batch=2)) as writer:
            made = embed_into(writer, fake_model())
        assert made.vectors.tobytes() == expected.tobytes(), call
        left = sorted(path.name for path in folder.iterdir())
        assert left == [".lock", "manifest.json", "samples.csv", "vectors.npy"], call
        if survived:
            break
    else:
        pytest.fail("the process never came to its end")
    assert call > 5, "the crash was never where it hurts"


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is sent differently on Windows")
def test_ctrl_c_stops_and_resumes(samples: Samples, tmp_path: Path) -> None:
    process = start(tmp_path / "e", samples)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)  # a hang guard, not a measurement
    assert process.returncode != 0
    again = start(tmp_path / "e", samples)
    again.communicate()
    assert again.returncode == 0
