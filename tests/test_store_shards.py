"""Shards of a run, each in a folder of its own, and joining them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tracemalloc
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit import disk, store
from reidkit.errors import (
    ArgumentError,
    FormatError,
    IntegrityError,
    MismatchError,
    StoreError,
    UnreadableImage,
    UnreadableImagesError,
)
from reidkit.records import Samples
from reidkit.store import EmbeddingsWriter, Plan, Shard, merge_embeddings
from reidkit.store._journal import Stamp

PLAN = Plan("m", "c", dimension=3, batch=2, runtime="fake", device="cpu")

FILES = ["manifest.json", "samples.csv", "vectors.npy"]


def samples(count: int) -> Samples:
    names = [f"picture {i},\n.jpg" for i in range(count)]
    return Samples.from_columns(names, np.arange(count), np.arange(count) % 2)


def fill(
    folder: Path,
    pictures: Samples,
    shard: Shard | None = None,
    *,
    plan: Plan = PLAN,
    bad: Iterable[int] = (),
) -> Path:
    """Write a finished folder whose vectors tell the row in the whole; `bad` rows are lost."""
    ids = dict(zip(pictures.paths, range(len(pictures)), strict=True))
    with EmbeddingsWriter(folder, pictures, plan, shard) as writer:
        for start in writer.pending:
            paths = writer.samples.paths[start : start + plan.batch].tolist()
            vectors = np.empty((len(paths), plan.dimension), np.float32)
            vectors.T[:] = [ids[path] for path in paths]
            lost = [UnreadableImage(path, "torn") for path in paths if ids[path] in set(bad)]
            writer.append(start, vectors, lost)
        writer.finish()
    return folder


def fill_all(folder: Path, pictures: Samples, count: int, **options: Any) -> list[Path]:
    return [
        fill(folder / f"{index}", pictures, Shard(index, count), **options)
        for index in range(1, count + 1)
    ]


def read_all(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    fill_all(folder, samples(7), 3)
    return folder


@pytest.fixture
def shards(filled: Path, tmp_path: Path) -> list[Path]:
    """Three shards of seven pictures: rows 0 to 1, 2 to 3, 4 to 6."""
    shutil.copytree(filled, tmp_path / "parts")
    return [tmp_path / "parts" / name for name in "123"]


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 40))
def test_shards_are_whole_batches_nearly_equal_and_cover_all(
    total: int, batch: int, count: int
) -> None:
    rows = [Shard(index, count).find_rows(total, batch) for index in range(1, count + 1)]
    assert [row for part in rows for row in part] == list(range(total))
    # Past the end too, a shard starts where a batch would: the last one may be short.
    assert all(part.start % batch == 0 for part in rows if part)
    sizes = [-(-len(part) // batch) for part in rows]
    assert max(sizes) - min(sizes) <= 1


def test_a_shard_reads_as_it_is_written() -> None:
    assert Shard.parse("3/8") == Shard(3, 8)
    assert Shard.parse("008/8") == Shard(8, 8)
    assert str(Shard(3, 8)) == "3/8"


@pytest.mark.parametrize("text", ["0/8", "9/8"])
def test_a_shard_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match=f"{text} is no shard: .* from 1 to 8"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["", "3", "3/", "/8", "-1/8", "3/8/9", " 3/8", "3/8\n", "a/b"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="expected INDEX/COUNT, such as 3/8"):
        Shard.parse(text)


@pytest.mark.parametrize("text", ["1/0", "1/1000001"])
def test_the_number_of_shards_has_limits(text: str) -> None:
    with pytest.raises(ArgumentError, match="from 1 to 1,000,000"):
        Shard.parse(text)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_merged_shards_are_the_run_in_one_piece(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    total, count = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 6))
    plan = dataclasses.replace(PLAN, batch=data.draw(st.integers(1, 5)))
    bad = data.draw(st.sets(st.integers(0, 11), max_size=4)) if total else set()
    bad -= {total - 1}  # not every one
    pictures = samples(total)
    whole = fill(folder / "whole", pictures, plan=plan, bad=bad)
    parts = fill_all(folder / "parts", pictures, count, plan=plan, bad=bad)
    merged = merge_embeddings(data.draw(st.permutations(parts)), folder / "all")
    assert read_all(folder / "all") == read_all(whole)
    read = store.read_embeddings(folder / "all")
    assert (merged.rows, merged.unreadable) == (len(read), read.unreadable)
    with EmbeddingsWriter(folder / "all", pictures, plan) as writer:
        assert writer.finished


def test_the_stamp_of_the_merged_folder_is_that_of_the_files(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{i}.jpg") for i in range(7)]
    for size, path in enumerate(paths[:-1]):
        Path(path).write_bytes(bytes(size))
    pictures = Samples.from_paths(paths)
    merge_embeddings(fill_all(tmp_path / "parts", pictures, 3), tmp_path / "all")
    with EmbeddingsWriter(tmp_path / "all", pictures, PLAN) as writer:
        assert writer.finished
    Path(paths[3]).write_bytes(b"another picture")
    with pytest.raises(MismatchError, match="before they changed on disk"):
        EmbeddingsWriter(tmp_path / "all", pictures, PLAN)


def test_stamps_join_without_looking_at_files() -> None:
    random = np.random.default_rng(0)
    first, second = random.bytes(70), random.bytes(150_000)  # more than one block of zeros
    a, b, both, other = (
        Stamp(zlib.crc32(text), len(text))
        for text in (first, second, first + second, second + first)
    )
    assert a.followed_by(b) == both
    assert b.followed_by(a) == other
    assert Stamp(0, 0).followed_by(a) == a


def test_the_manifest_says_which_shard_it_is(shards: list[Path]) -> None:
    manifest = json.loads((shards[1] / "manifest.json").read_text())
    whole = store._journal.fingerprint(samples(7))
    stamped = len("missing") * 2
    expected = {"index": 2, "count": 3, "first": 2, "total": 7, "samples_sha256": whole}
    assert manifest["shard"] == expected | {"stamped": stamped}
    assert manifest["format"] == 1
    assert manifest["made_by"]["samples_sha256"] != whole
    read = store.read_embeddings(shards[1])
    assert read.vectors[:, 0].tolist() == [2, 3]


def test_a_folder_that_is_no_shard_is_written_as_ever(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(2), PLAN):
        plan = json.loads((tmp_path / "e" / "plan.json").read_text())
    names = [field.name for field in dataclasses.fields(Plan)]
    assert list(plan) == ["format", *names, "samples_sha256"]
    manifest = json.loads((fill(tmp_path / "e", samples(2)) / "manifest.json").read_text())
    assert list(manifest) == [
        *("format", "rows", "dimension", "model_sha256", "contract_sha256", "sha256", "made_by"),
        "unreadable",
    ]
    assert list(manifest["made_by"]) == [*names, "samples_sha256", "pictures"]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("begun", "asked", "word"),
    [
        (Shard(2, 3), Shard(3, 3), r"another shard \(2/3, not 3/3\)"),
        (Shard(2, 3), Shard(2, 4), r"another shard \(2/3, not 2/4\)"),
        (Shard(1, 1), None, r"another shard \(1/1, not the whole run\)"),
        (None, Shard(1, 1), r"another shard \(the whole run, not 1/1\)"),
    ],
)
def test_another_shard_is_refused(
    tmp_path: Path, begun: Shard | None, asked: Shard | None, word: str, finished: bool
) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(7), PLAN, begun):
        pass
    if finished:
        fill(tmp_path / "e", samples(7), begun)
    with pytest.raises(MismatchError, match=f"{word}.*choose another folder"):
        EmbeddingsWriter(tmp_path / "e", samples(7), PLAN, asked)
    with EmbeddingsWriter(tmp_path / "e", samples(7), PLAN, begun) as writer:
        assert writer.finished == finished


def test_the_same_shard_of_other_pictures_is_refused(shards: list[Path]) -> None:
    """The first shard's own pictures are the same in either run."""
    with pytest.raises(MismatchError, match="other pictures or ids"):
        EmbeddingsWriter(shards[0], samples(6), PLAN, Shard(1, 3))


def test_a_shard_goes_on_where_it_stopped(tmp_path: Path) -> None:
    vectors = np.ones((2, 3), np.float32)
    with EmbeddingsWriter(tmp_path / "e", samples(11), PLAN, Shard(2, 2)) as writer:
        assert writer.samples.person_ids.tolist() == [6, 7, 8, 9, 10]
        assert writer.pending == [0, 2, 4]
        writer.append(2, vectors, [])
    with EmbeddingsWriter(tmp_path / "e", samples(11), PLAN, Shard(2, 2)) as writer:
        assert writer.pending == [0, 4]


def test_missing_shards_are_named(shards: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="of 3 shards these are missing: 1/3, 3/3; embed them"):
        merge_embeddings(shards[1:2], tmp_path / "all")
    with pytest.raises(ArgumentError, match="no folders were given"):
        merge_embeddings([], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_shard_given_twice_is_named(shards: list[Path], tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(shards[1], again)
    with pytest.raises(ArgumentError, match=f"{shards[1]} and {again} are both shard 2/3"):
        merge_embeddings([*shards, again], tmp_path / "all")
    with pytest.raises(ArgumentError, match="are both shard 2/3"):
        merge_embeddings([*shards, shards[1]], tmp_path / "all")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_sha256": "other"}, "another model"),
        ({"contract_sha256": "other"}, "another input contract"),
        ({"dimension": 4}, r"another vector length \(4, not 3\)"),
        ({"batch": 3}, r"another batch size \(3, not 2\)"),
        ({"runtime": "abacus"}, r"another runtime \(abacus, not fake\)"),
        ({"device": "cuda"}, r"another device \(cuda, not cpu\)"),
    ],
)
def test_a_shard_made_in_another_way_is_named(
    shards: list[Path], tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    plan = dataclasses.replace(PLAN, **change)
    other = fill(tmp_path / "other", samples(7), Shard(3, 3), plan=plan)
    with pytest.raises(MismatchError, match=f"{other} is a shard of a run with {word}"):
        merge_embeddings([*shards[:2], other], tmp_path / "all")


def test_a_shard_of_other_pictures_is_named(shards: list[Path], tmp_path: Path) -> None:
    fewer = fill(tmp_path / "fewer", samples(6), Shard(3, 3))
    pictures = samples(7)
    ids = pictures.person_ids + (pictures.person_ids == 0)
    renamed = Samples(pictures.paths, ids, pictures.camera_ids)
    for other in (fewer, fill(tmp_path / "renamed", renamed, Shard(3, 3))):
        with pytest.raises(MismatchError, match=f"{other} .* with other pictures or ids"):
            merge_embeddings([*shards[:2], other], tmp_path / "all")


def test_a_shard_out_of_another_number_is_named(shards: list[Path], tmp_path: Path) -> None:
    other = fill(tmp_path / "other", samples(7), Shard(3, 4))
    with pytest.raises(MismatchError, match=rf"{other} .* another number of shards \(4, not 3\)"):
        merge_embeddings([*shards[:2], other], tmp_path / "all")


def test_what_is_no_finished_shard_is_named(shards: list[Path], tmp_path: Path) -> None:
    whole = fill(tmp_path / "whole", samples(7))
    with EmbeddingsWriter(tmp_path / "begun", samples(7), PLAN, Shard(3, 3)):
        pass
    (tmp_path / "empty").mkdir()
    for name, word in {
        whole.name: "is no shard: reidkit embed --shard makes",
        "begun": "is unfinished: run the same reidkit embed again",
        "empty": "is not an embeddings folder",
        "nowhere": "does not exist",
    }.items():
        with pytest.raises(StoreError, match=f"{tmp_path / name} {word}"):
            merge_embeddings([*shards[:2], tmp_path / name], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize("name", ["vectors.npy", "samples.csv"])
@pytest.mark.parametrize("damage", [flip, cut_short])
def test_a_damaged_file_is_named(
    shards: list[Path], tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(shards[1] / name)
    with pytest.raises(IntegrityError, match=f"{shards[1] / name} was changed"):
        merge_embeddings(shards, tmp_path / "all")
    (shards[1] / name).unlink()
    with pytest.raises(StoreError, match=f"{shards[1]} is damaged: {name} is missing"):
        merge_embeddings(shards, tmp_path / "all")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"], "nothing half done is left"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shard": 3}, "not subscriptable"),
        ({"shard": {"index": 2, "count": 3}}, "'first'"),
        ({"rows": 1}, "1 rows from row 2 on"),
        ({"rows": "many"}, "'many'"),
        ({"made_by": None}, "not subscriptable"),
        ({"unreadable": 3}, "not iterable"),
        ({"unreadable": [["x", "torn"]]}, "2 rows from row 2 on"),
        ({"sha256": {}}, "'vectors.npy'"),
    ],
)
def test_a_damaged_manifest_is_named(
    shards: list[Path], tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    path = shards[1] / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=f"{shards[1]} is damaged .*{word}"):
        merge_embeddings(shards, tmp_path / "all")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"index": 9}, "9/3 is no shard"),
        ({"first": 4}, r"2 rows from row 4 on, expected range\(2, 4\)"),
        ({"total": 3}, "2 rows from row 2 on"),
        ({"count": 0}, "2/0 is no shard"),
        ({"stamped": None}, "NoneType"),
    ],
)
def test_a_manifest_whose_shard_makes_no_sense_is_named(
    shards: list[Path], tmp_path: Path, change: dict[str, Any], word: str
) -> None:
    path = shards[1] / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shard"] |= change
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=f"{shards[1]} is damaged .*{word}"):
        merge_embeddings(shards, tmp_path / "all")


def test_a_file_of_another_kind_is_refused_even_if_it_was_recorded(
    shards: list[Path], tmp_path: Path
) -> None:
    """Vectors saved the other way round have the size and the hash that the manifest says."""
    vectors = np.asfortranarray(np.load(shards[1] / "vectors.npy"))
    np.save(shards[1] / "vectors.npy", vectors)
    path = shards[1] / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["sha256"]["vectors.npy"] = disk.sha256_file(shards[1] / "vectors.npy")
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"vectors\.npy is damaged: it begins otherwise"):
        merge_embeddings(shards, tmp_path / "all")


def test_another_format_is_refused(shards: list[Path], tmp_path: Path) -> None:
    path = shards[1] / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(FormatError, match="embeddings format 7"):
        merge_embeddings(shards, tmp_path / "all")


def test_overwriting_must_be_asked_for(shards: list[Path], tmp_path: Path) -> None:
    merge_embeddings(shards, tmp_path / "all")
    with pytest.raises(ArgumentError, match="--overwrite"):
        merge_embeddings(shards, tmp_path / "all")
    merge_embeddings(shards, tmp_path / "all", overwrite=True)
    with pytest.raises(ArgumentError, match="is one of the shards"):
        merge_embeddings(shards, shards[0], overwrite=True)
    assert len(store.read_embeddings(shards[0])) == 2


def test_shards_without_one_readable_picture(tmp_path: Path) -> None:
    parts = fill_all(tmp_path / "parts", samples(7), 3, bad=range(4))
    assert len(store.read_embeddings(parts[0])) == 0
    assert merge_embeddings(parts, tmp_path / "all").rows == 3
    none = fill_all(tmp_path / "none", samples(7), 3, bad=range(7))
    with pytest.raises(UnreadableImagesError, match="7 of 7"):
        merge_embeddings(none, tmp_path / "nothing")


def test_progress_ends_at_the_total(shards: list[Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    merge_embeddings(shards, tmp_path / "all", progress=lambda *call: calls.append(call))
    assert calls == [(0, 7), (2, 7), (4, 7), (7, 7)]


def test_memory_does_not_grow_with_the_vectors(tmp_path: Path) -> None:
    """Ten megabytes of vectors, and two of names, pass through less than four."""
    plan = dataclasses.replace(PLAN, dimension=256, batch=1000)
    pictures = Samples.from_paths([f"{'long' * 45}/{i}.jpg" for i in range(10_000)])
    parts = fill_all(tmp_path / "parts", pictures, 2, plan=plan)
    tracemalloc.start()
    merge_embeddings(parts, tmp_path / "all")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "all" / "vectors.npy").stat().st_size > 10e6
    assert peak < 4e6
