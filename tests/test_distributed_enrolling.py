"""Data sets into galleries: part by part into a folder, by many tasks into PostgreSQL."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reidkit.cli import main
from reidkit.distributed import (
    HERE,
    Cluster,
    DataSet,
    EnrolledParts,
    Enrolling,
    Here,
    enrol_parts,
    open_tasks,
)
from reidkit.embedding import embed
from reidkit.errors import ArgumentError, MismatchError
from reidkit.gallery import EVERYTHING, Gallery, Left
from reidkit.models import load_model
from reidkit.records import Embeddings
from tests.parted import write_data_set
from tests.pictures import write_samples
from tests.ray_cluster import ray_cluster as ray_cluster
from tests.test_benchmarking import write_fake

pytest_plugins = ["tests.postgres_server"]

CROPS = 24


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_fake(tmp_path / "package").folder


@pytest.fixture
def embeddings(package: Path, tmp_path: Path) -> Embeddings:
    with load_model(package) as model:
        return embed(model, write_samples(tmp_path / "crops", CROPS))


@pytest.fixture
def data(embeddings: Embeddings, tmp_path: Path) -> DataSet:
    return write_data_set(tmp_path / "set", embeddings, [7, 0, 12, 5])


@pytest.fixture
def place(package: Path, tmp_path: Path) -> str:
    Gallery.create(tmp_path / "gallery", package).close()
    return str(tmp_path / "gallery")


def expect_all(place: str, embeddings: Embeddings) -> None:
    with Gallery.open(place) as gallery:
        assert gallery.store.count(EVERYTHING) == CROPS
        found = gallery.store.search(embeddings.vectors, 1, EVERYTHING)
        crops = gallery.store.read(found.ids[:, 0])
        assert crops.sources.tolist() == embeddings.samples.paths.tolist()
        assert crops.people.tolist() == [str(i) for i in embeddings.samples.person_ids]


def test_all_crops_are_enrolled_once(data: DataSet, embeddings: Embeddings, place: str) -> None:
    seen: list[tuple[int, int]] = []
    done = enrol_parts(data, Enrolling(place), progress=lambda *counts: seen.append(counts))
    assert done == EnrolledParts(crops=CROPS, added=CROPS)
    assert seen == [(0, 24), (7, 24), (7, 24), (19, 24), (24, 24)]
    expect_all(place, embeddings)
    again = enrol_parts(data, Enrolling(place))
    assert again.added == 0
    assert again.replaced + again.skipped == CROPS
    expect_all(place, embeddings)


def test_nobody_is_left_out_by_number_and_named_by_path(
    embeddings: Embeddings, place: str, tmp_path: Path
) -> None:
    ids = embeddings.samples.person_ids.copy()
    ids[:4], ids[4:6] = -1, 0
    samples = dataclasses.replace(embeddings.samples, person_ids=ids)
    unknown = write_data_set(
        tmp_path / "unknown", dataclasses.replace(embeddings, samples=samples), 10
    )
    done = enrol_parts(unknown, Enrolling(place))
    assert (done.added, done.left) == (CROPS - 6, Left(junk=4, distractors=2))
    named = enrol_parts(unknown, Enrolling(place, naming="stem", camera="door", tags=("new",)))
    assert named.added + named.refused_count + named.skipped == CROPS
    with Gallery.open(place) as gallery:
        assert "0003" in {person.name for person in gallery.store.list_people()}


def test_vectors_of_another_model_are_refused(
    embeddings: Embeddings, place: str, tmp_path: Path
) -> None:
    other = dataclasses.replace(embeddings, model_sha256="f" * 64)
    with pytest.raises(MismatchError, match="these vectors are of model ffff"):
        enrol_parts(write_data_set(tmp_path / "other", other, 10), Enrolling(place))


def test_a_folder_is_written_by_one_process(data: DataSet, place: str) -> None:
    with pytest.raises(ArgumentError, match="is a folder, which one process writes"):
        enrol_parts(data, Enrolling(place), tasks=Here(at_once=2))
    assert HERE.at_once == 1


@pytest.mark.slow
def test_many_tasks_fill_a_gallery_in_postgresql(
    data: DataSet,
    embeddings: Embeddings,
    package: Path,
    new_postgres_dsn: Callable[[], str],
    ray_cluster: Cluster,
) -> None:
    dsn = new_postgres_dsn()
    Gallery.create(dsn, package).close()
    with open_tasks(ray_cluster) as tasks:
        assert tasks.at_once > 1
        done = enrol_parts(data, Enrolling(dsn, package), tasks=tasks)
    assert done == EnrolledParts(crops=CROPS, added=CROPS)
    expect_all(dsn, embeddings)


def test_the_command(
    data: DataSet, place: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = ["gallery", "add", place, "--embeddings", str(tmp_path / "set")]
    for added in (CROPS, 0):
        with pytest.raises(SystemExit) as exit_:
            main([*run, "--json"])
        assert exit_.value.code == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["crops"], found["added"], found["refused_count"]) == (CROPS, added, 0)
    with pytest.raises(SystemExit) as exit_:
        main([*run, "--engine", "ray", "--actors", "2", "--address", "127.0.0.1:1"])
    assert exit_.value.code == 1
    with pytest.raises(SystemExit) as exit_:
        main(["gallery", "add", place, "--engine", "ray", str(tmp_path / "crops"), "--person", "x"])
    assert exit_.value.code == 2
    assert "only together with --embeddings" in capsys.readouterr().err
    assert np.isfinite(data.read(0).vectors).all()
