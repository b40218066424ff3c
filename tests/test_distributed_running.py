"""Embedding on a real Ray cluster: the vectors of the local command, from and to anywhere."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from reidkit.distributed import (
    Cluster,
    DataSet,
    Job,
    Source,
    _cluster,
    choose_size,
    cut_samples,
    embed_parts,
    find_place,
    find_source,
    plan_job,
)
from reidkit.distributed._cluster import share_out
from reidkit.embedding import embed
from reidkit.errors import (
    ArgumentError,
    EngineError,
    MismatchError,
    StoreError,
    UnreadableImagesError,
)
from reidkit.models import load_model
from reidkit.package import Package
from reidkit.records import Embeddings, Samples
from tests.object_store import bucket as bucket
from tests.object_store import object_store as object_store
from tests.pictures import write_samples
from tests.ray_cluster import ray_cluster as ray_cluster
from tests.shards import write_parquet, write_tar
from tests.test_benchmarking import write_fake, write_onnx

pytestmark = pytest.mark.slow

SIZE, BATCH = 8, 4


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_onnx(tmp_path_factory.mktemp("packages") / "onnx", mix=0.1)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The row of a picture depends on its batch, with this package: batches must be the same."""
    return write_samples(tmp_path_factory.mktemp("pictures"), 42)


@pytest.fixture(scope="module")
def local(package: Package, samples: Samples) -> Embeddings:
    with load_model(package) as model:
        return embed(model, samples, batch=BATCH)


def plan(package: Package, source: Source, out: Path | str, *, flip: bool = False) -> Job:
    sizes = choose_size(package, size=SIZE, batch=BATCH)
    return plan_job(package, source, find_place(out), sizes=sizes, flip=flip)


def expect_same(found: DataSet, expected: Embeddings) -> None:
    whole = found.collect()
    assert np.array_equal(whole.vectors, expected.vectors)
    assert whole.samples.paths.tolist() == expected.samples.paths.tolist()
    assert np.array_equal(whole.samples.person_ids, expected.samples.person_ids)
    assert np.array_equal(whole.samples.camera_ids, expected.samples.camera_ids)
    assert whole.model_sha256 == expected.model_sha256
    assert whole.contract_sha256 == expected.contract_sha256
    assert whole.unreadable == expected.unreadable


def test_the_vectors_are_those_of_embed_bit_for_bit(
    package: Package, samples: Samples, local: Embeddings, tmp_path: Path, ray_cluster: Cluster
) -> None:
    seen: list[tuple[int, int]] = []
    job = plan(package, cut_samples(samples, size=SIZE), tmp_path / "out")
    found = embed_parts(job, ray_cluster, progress=lambda *counts: seen.append(counts))
    expect_same(found, local)
    assert len(found.parts) == 6
    assert seen[0] == (0, 42)
    assert seen[-1] == (42, 42)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_flip_averaging_is_another_contract(
    package: Package, samples: Samples, tmp_path: Path, ray_cluster: Cluster
) -> None:
    some = samples.select(slice(0, 6))
    job = plan(package, cut_samples(some, size=SIZE), tmp_path / "out", flip=True)
    with load_model(package) as model:
        expect_same(embed_parts(job, ray_cluster), embed(model.with_flip(), some, batch=BATCH))


def test_shards_from_and_to_an_object_store(
    package: Package,
    samples: Samples,
    local: Embeddings,
    bucket: str,
    tmp_path: Path,
    ray_cluster: Cluster,
) -> None:
    first, second = samples.select(slice(0, 20)), samples.select(slice(20, 42))
    write_tar(tmp_path / "0.tar", first)
    write_parquet(tmp_path / "1.parquet", second, group=12)
    root = find_place(bucket.format("/crops"))
    for name in ("0.tar", "1.parquet"):
        (root / name).write_bytes((tmp_path / name).read_bytes())
    job = plan(package, find_source([root.address], size=SIZE), bucket.format("/out"))
    seen: list[tuple[int, int]] = []
    found = embed_parts(job, ray_cluster, progress=lambda *counts: seen.append(counts))
    whole = found.collect()
    assert np.array_equal(whole.vectors, local.vectors)
    assert np.array_equal(whole.samples.person_ids, samples.person_ids)
    assert whole.samples.paths[0] == f"{root}/0.tar/0000.jpg"
    assert "secret" not in (found.place / "plan.json").read_bytes().decode()
    assert seen[-1] == (3, 3)


def test_a_run_goes_on_with_what_is_missing(
    package: Package, samples: Samples, local: Embeddings, tmp_path: Path, ray_cluster: Cluster
) -> None:
    out = tmp_path / "out"
    job = plan(package, cut_samples(samples, size=SIZE), out)
    embed_parts(job, ray_cluster)
    (out / "manifest.json").unlink()
    files = sorted((out / "vectors").iterdir())
    for file in files[1:4]:
        file.unlink()
    times = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    expect_same(embed_parts(job, ray_cluster), local)
    assert {file: file.stat().st_mtime_ns for file in times} == times
    finished = (out / "manifest.json").read_bytes()
    shutil.rmtree(out / "vectors")  # a finished one is not looked through again
    embed_parts(job, Cluster("127.0.0.1:1"))
    assert (out / "manifest.json").read_bytes() == finished
    other = dataclasses.replace(job, plan=dataclasses.replace(job.plan, model_sha256="x" * 64))
    with pytest.raises(MismatchError, match="another model"):
        embed_parts(other, ray_cluster)


def test_unreadable_pictures_are_rows_of_an_errors_table(
    package: Package, tmp_path: Path, ray_cluster: Cluster
) -> None:
    samples = write_samples(tmp_path / "pictures", 20)
    good = Path(samples.paths[9]).read_bytes()
    for row in (2, 9):
        Path(samples.paths[row]).write_bytes(b"no picture")
    job = plan(package, cut_samples(samples, size=SIZE), tmp_path / "out")
    with pytest.raises(UnreadableImagesError, match="2 of 20 pictures could not be read") as caught:
        embed_parts(job, ray_cluster)
    assert [image.path for image in caught.value.images] == samples.paths[[2, 9]].tolist()
    Path(samples.paths[9]).write_bytes(good)  # mended: the next run tries it again
    with pytest.raises(UnreadableImagesError, match="1 of 20"):
        embed_parts(job, ray_cluster)
    with load_model(package) as model:
        local = embed(model, samples, batch=BATCH, skip_unreadable=True)
    expect_same(embed_parts(job, Cluster("127.0.0.1:1"), skip_unreadable=True), local)
    with pytest.raises(UnreadableImagesError, match="1 of 20"):
        embed_parts(job, Cluster("127.0.0.1:1"))  # as long as nobody says that they may lack


def test_a_run_in_which_nothing_could_be_read_is_an_error(
    package: Package, tmp_path: Path, ray_cluster: Cluster
) -> None:
    lost = Samples.from_paths([str(tmp_path / f"{number}.jpg") for number in range(5)])
    job = plan(package, cut_samples(lost, size=SIZE), tmp_path / "out")
    with pytest.raises(UnreadableImagesError, match="5 of 5 pictures could not be read"):
        embed_parts(job, ray_cluster, skip_unreadable=True)


def test_an_engine_that_fails_is_an_error_here(
    samples: Samples, tmp_path: Path, ray_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    package = write_fake(tmp_path / "fake", largest=2)
    job = plan(package, cut_samples(samples, size=SIZE), tmp_path / "out")
    with pytest.raises(EngineError, match=r"the fake engine ran out of memory on input \(4, 3"):
        embed_parts(job, ray_cluster)


def test_no_cluster_is_said(
    package: Package, samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", _refuse)
    job = plan(package, cut_samples(samples, size=SIZE), tmp_path / "out")
    with pytest.raises(EngineError, match=r"no Ray cluster answers at 'auto' \(nobody there\)"):
        embed_parts(job, Cluster())


def _refuse(**_: object) -> None:
    raise ConnectionError("nobody there\nand more")


class FakeRay:
    def __init__(self, *cpus: float, gpus: int = 0) -> None:
        self.resources = {"CPU": sum(cpus), "GPU": gpus}
        self.machines = [{"Alive": True, "Resources": {"CPU": count}} for count in cpus]
        self.machines.append({"Alive": False, "Resources": {"CPU": 1000}})

    def cluster_resources(self) -> dict[str, float]:
        return dict(self.resources)

    def nodes(self) -> list[dict[str, object]]:
        return self.machines


@pytest.mark.parametrize(
    ("cluster", "has", "device", "expected"),
    [
        (Cluster(), FakeRay(64), "cpu", (14, 4, 0, 4)),
        (Cluster(threads=8), FakeRay(64), "cpu", (7, 8, 0, 8)),
        (Cluster(), FakeRay(2), "cpu", (1, 1, 0, 1)),
        (Cluster(actors=2, threads=3), FakeRay(8), "cpu", (2, 3, 0, 3)),
        (Cluster(), FakeRay(2, 2, 2, 2), "cpu", (3, 2, 0, 2)),
        (Cluster(), FakeRay(6, 6), "cpu", (2, 4, 0, 4)),
        (Cluster(), FakeRay(64, gpus=8), "cuda", (8, 0, 1, 1)),
        (Cluster(actors=3), FakeRay(64, gpus=8), "cuda:0", (3, 0, 1, 1)),
    ],
)
def test_actors_fit_beside_reading(
    cluster: Cluster, has: FakeRay, device: str, expected: tuple[int, float, int, int]
) -> None:
    share = share_out(has, cluster, device)
    assert (share.actors, share.cpus, share.gpus, share.threads) == expected


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_a_cluster_started_here_leaves_half_its_logical_processors_to_reading(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster, "available_cores", lambda: cores)
    ours, own = FakeRay(2 * cores), FakeRay(max(2, cores))
    for actors in (1, 2, 5):
        share = share_out(ours, Cluster("local", actors), "cpu")
        assert share.actors * share.cpus == pytest.approx(cores)
        assert share.threads == max(1, cores // actors)
    # A cluster that the caller started with fewer: an actor on all of them would wait for ever.
    share = share_out(own, Cluster("local"), "cpu")
    assert share.actors * share.cpus <= max(2, cores) - (cores > 1)


@pytest.mark.parametrize(
    ("cluster", "has", "device", "message"),
    [
        (Cluster(actors=2, threads=4), FakeRay(8), "cpu", "of which 1 stay for reading"),
        (Cluster(), FakeRay(1), "cpu", "have 1 processors, of which 1 stay for reading"),
        (Cluster(threads=4), FakeRay(2, 2, 2), "cpu", r"have 2 \+ 2 \+ 2 processors"),
        (Cluster(), FakeRay(8), "cuda", "the cluster has 0 GPUs"),
    ],
)
def test_what_would_wait_for_ever_is_refused(
    cluster: Cluster, has: FakeRay, device: str, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        share_out(has, cluster, device)


def test_parts_do_not_go_into_a_folder_that_is_embedded(package: Package, samples: Samples) -> None:
    folder = Path(samples.paths[0]).parent
    source = find_source([str(folder)], size=SIZE)
    assert plan(package, source, f"{folder}-beside").out.local == Path(f"{folder}-beside")
    for out in (folder, folder / "vectors"):
        with pytest.raises(ArgumentError, match="which is embedded: choose another place"):
            plan(package, source, out)


def test_sizes_hold_whole_batches(package: Package) -> None:
    assert choose_size(package, size=None, batch=None) == (512, 16)
    assert choose_size(package, size=100, batch=16) == (112, 16)
    with pytest.raises(ArgumentError, match="a part is 0 pictures, expected 1 to 65536"):
        choose_size(package, size=0, batch=None)
    with pytest.raises(ArgumentError, match="actors is 0"):
        Cluster(actors=0)


def test_a_place_that_cannot_be_written_is_said_before_anything_starts(
    package: Package, samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    job = plan(package, cut_samples(samples, size=SIZE), tmp_path / "file" / "out")
    with pytest.raises(StoreError, match="cannot be"):
        embed_parts(job, Cluster("127.0.0.1:1"))
