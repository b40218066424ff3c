"""The embeddings data set on disk: parts that appear whole, a manifest that comes last."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from reidkit.distributed import DataSet, find_place, open_data_set
from reidkit.distributed._folder import begin, count_parts, finish, is_whole, list_done
from reidkit.distributed._parts import PartFacts, PartPlan, read_part, write_part
from reidkit.distributed._places import Place
from reidkit.distributed._sections import SectionNames
from reidkit.errors import (
    FormatError,
    IntegrityError,
    MismatchError,
    ReidkitError,
    StoreError,
    UnreadableImage,
)

PLAN = PartPlan("m" * 64, "c" * 64, 4, 2, "fake", "cpu", 3, 2, "s" * 64)

ABOUT = (
    SectionNames(0, 0, False, ("a", "b", "c"), (1, 1, 2), (1, 2, 1)),
    SectionNames(
        0, 1, True, ("d", "é"), (2, -1), (2, -1), (UnreadableImage("d", "torn"),), rows=(0,)
    ),
    SectionNames(1, 0, True, (), (), (), (UnreadableImage("x.tar", "cut off"),)),
)

VECTORS = np.arange(20, dtype=np.float32).reshape(5, 4)


def write(out: Place, numbers: tuple[int, ...] = (0, 1, 2)) -> list[PartFacts]:
    begin(out, PLAN)
    pieces = (VECTORS[:3], VECTORS[3:], VECTORS[5:])
    return [write_part(out, PLAN, ABOUT[number], pieces[number]) for number in numbers]


@pytest.fixture
def out(tmp_path: Path) -> Place:
    return find_place(tmp_path / "set")


@pytest.fixture
def done(out: Place) -> DataSet:
    finish(out, PLAN, write(out))
    return open_data_set(out)


def test_what_was_written_is_read(done: DataSet) -> None:
    assert (len(done), done.rows, done.unreadable) == (4, (3, 1, 0), 2)
    whole = done.collect()
    assert np.array_equal(whole.vectors, VECTORS[[0, 1, 2, 4]])
    assert whole.samples.paths.tolist() == ["a", "b", "c", "é"]
    assert whole.samples.person_ids.tolist() == [1, 1, 2, -1]
    assert whole.samples.camera_ids.tolist() == [1, 2, 1, -1]
    assert whole.unreadable == (("d", "torn"), ("x.tar", "cut off"))
    assert (whole.model_sha256, whole.contract_sha256) == ("m" * 64, "c" * 64)
    assert len(done.read(2)) == 0


def test_other_tools_read_one_table_of_fixed_length_vectors(done: DataSet) -> None:
    assert done.place.local is not None
    table = pads.dataset(done.place.local / "vectors").to_table()
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)
    assert table.column("path").to_pylist() == ["a", "b", "c", "é"]
    faults = pads.dataset(done.place.local / "unreadable").to_table()
    assert faults.column("reason").to_pylist() == ["torn", "cut off"]


def test_writing_a_part_again_changes_nothing_and_forgets_old_faults(out: Place) -> None:
    first = write(out)
    assert out.local is not None
    before = {file: file.read_bytes() for file in out.local.rglob("*.parquet")}
    assert write(out) == first
    assert {file: file.read_bytes() for file in out.local.rglob("*.parquet")} == before
    mended = dataclasses.replace(ABOUT[1], unreadable=(), rows=())
    assert write_part(out, PLAN, mended, VECTORS[3:]).rows == 2
    assert len(list(out.local.glob("unreadable/*"))) == 1


def test_a_stale_table_of_faults_is_not_read(out: Place) -> None:
    """A run that is killed between the vectors and the old table leaves that behind."""
    write(out)
    stale = out / "unreadable" / "part-000000-0000.parquet"
    stale.write_bytes((out / "unreadable" / "part-000000-0001-last.parquet").read_bytes())
    parts = count_parts(out, PLAN)
    assert [part.unreadable for part in parts] == [0, 1, 1]
    finish(out, PLAN, parts)
    assert [image.path for image in open_data_set(out).list_unreadable()] == ["d", "x.tar"]


def test_a_part_that_was_mended_is_complete_before_its_faults_are_gone(
    out: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(out)
    monkeypatch.setattr(Place, "write_bytes", _break)
    mended = dataclasses.replace(ABOUT[1], unreadable=(), rows=())
    with pytest.raises(StoreError):
        write_part(out, PLAN, mended, VECTORS[3:])
    assert [part.unreadable for part in count_parts(out, PLAN)] == [0, 1, 1]
    assert (out / "unreadable" / "part-000000-0001-last.parquet").exists()


def _break(*_: object) -> None:
    raise StoreError("the disk is full")


def test_parts_are_counted_from_their_files(out: Place) -> None:
    assert write(out) == count_parts(out, PLAN)
    assert list_done(out) == {0: {0: False, 1: True}, 1: {0: True}}


@pytest.mark.parametrize(
    ("sections", "whole"),
    [
        ({}, False),
        ({0: True}, True),
        ({0: False}, False),
        ({0: False, 1: True}, True),
        ({1: True}, False),
        ({0: False, 2: True}, False),
    ],
)
def test_a_piece_is_whole_up_to_its_last_part(sections: dict[int, bool], whole: bool) -> None:
    assert is_whole(sections) is whole


def test_an_unfinished_data_set_is_no_data_set(out: Place) -> None:
    with pytest.raises(StoreError, match="is no embeddings data set"):
        open_data_set(out)
    parts = write(out, (0, 2))
    with pytest.raises(StoreError, match="unfinished: run the same reidkit embed again"):
        open_data_set(out)
    with pytest.raises(StoreError, match="still lacks parts of 1 of 2 pieces"):
        finish(out, PLAN, parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_sha256": "n" * 64}, "another model"),
        ({"source_sha256": "t" * 64}, "other pictures or ids"),
        ({"size": 4}, "parts of another size"),
        ({"pieces": 3}, "other pictures or ids"),
        ({"device": "cuda"}, "another device"),
    ],
)
def test_a_place_is_begun_for_one_plan(out: Place, change: dict[str, object], message: str) -> None:
    write(out)
    begin(out, PLAN)
    with pytest.raises(MismatchError, match=f"was begun for embeddings with {message}"):
        begin(out, dataclasses.replace(PLAN, **change))  # type: ignore[arg-type]


def test_a_place_with_other_things_is_left_alone(out: Place) -> None:
    (out / "notes.txt").write_bytes(b"mine")
    with pytest.raises(StoreError, match=r"holds other things \(notes.txt\)"):
        begin(out, PLAN)
    assert [file.below for file in out.list_files()] == ["notes.txt"]


def damage_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def damage_missing(path: Path) -> None:
    path.unlink()


def damage_vectors(path: Path) -> None:
    table = pq.read_table(path)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.0] * 12, pa.float32()), 4)
    pq.write_table(table.set_column(3, "vector", vectors), path)


def damage_rows(path: Path) -> None:
    fewer = SectionNames(0, 0, False, ("a", "b"), (1, 1), (1, 2))
    write_part(find_place(path.parent.parent), PLAN, fewer, VECTORS[:2])


def damage_ids(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "person_id", pa.array([1, 1, 3])), path)


def damage_model(path: Path) -> None:
    other = dataclasses.replace(PLAN, model_sha256="n" * 64)
    write_part(find_place(path.parent.parent), other, ABOUT[0], VECTORS[:3])


def damage_columns(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["camera_id"]), path)


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (damage_truncated, StoreError, "part-000000-0000.parquet is damaged"),
        (damage_missing, StoreError, "part-000000-0000.parquet is missing"),
        (damage_vectors, IntegrityError, "was changed after it was written"),
        (damage_ids, IntegrityError, "was changed after it was written"),
        (damage_model, MismatchError, "is of another model or contract"),
        (damage_rows, StoreError, r"holds \(2, 4\), the manifest says \(3, 4\)"),
        (damage_columns, StoreError, "is no part of an embeddings data set"),
    ],
)
def test_damage_is_found_and_named(
    done: DataSet, damage: object, kind: type[ReidkitError], message: str
) -> None:
    assert done.place.local is not None
    assert callable(damage)
    damage(done.place.local / "vectors" / done.parts[0])
    with pytest.raises(kind, match=message):
        done.collect()


def test_manifests_of_other_formats_and_damaged_ones_are_refused(done: DataSet) -> None:
    place = done.place / "manifest.json"
    manifest = json.loads(place.read_bytes())
    for change, kind in (({"format": 2}, FormatError), ({"parts": [["x"]]}, StoreError)):
        place.write_bytes(json.dumps(manifest | change).encode())
        with pytest.raises(kind):
            open_data_set(done.place)
    place.write_bytes(b"[]")
    with pytest.raises(StoreError, match="is damaged"):
        open_data_set(done.place)


def test_parts_of_another_run_are_not_taken_over(out: Place) -> None:
    write(out)
    other = dataclasses.replace(PLAN, model_sha256="n" * 64)
    with pytest.raises(MismatchError, match="is of another run"):
        count_parts(out, other)
    (out / "plan.json").delete()
    with pytest.raises(StoreError, match=r"holds other things \(unreadable/part"):
        begin(out, other)


def test_a_plan_of_another_format_is_refused(out: Place) -> None:
    write(out)
    plan = json.loads((out / "plan.json").read_bytes())
    (out / "plan.json").write_bytes(json.dumps(plan | {"format": 99}).encode())
    with pytest.raises(FormatError, match="has data set format 99"):
        begin(out, PLAN)


def test_a_shard_that_ends_elsewhere_now_leaves_no_part_behind(out: Place) -> None:
    """It was cut off when it was read first, and is whole now."""
    write(out)
    longer = dataclasses.replace(ABOUT[1], last=False)
    last = SectionNames(0, 2, True, ("f",), (3,), (1,))
    parts = [
        *write(out, (0,)),
        write_part(out, PLAN, longer, VECTORS[3:]),
        write_part(out, PLAN, last, VECTORS[:1]),
        *write(out, (2,)),
    ]
    assert list_done(out) == {0: {0: False, 1: False, 2: True}, 1: {0: True}}
    stale = out / "vectors" / "part-000007-0000.parquet"
    stale.write_bytes((out / "vectors" / parts[0].name).read_bytes())
    assert out.local is not None
    (out.local / "vectors" / ".part.12345678.partial").write_bytes(b"half")
    finish(out, PLAN, parts)
    names = [path.name for path in sorted((out.local / "vectors").iterdir())]
    assert names == [part.name for part in parts]
    assert pads.dataset(out.local / "vectors").count_rows() == len(open_data_set(out))


def test_a_part_can_be_read_alone(done: DataSet) -> None:
    assert read_part(done.place, done.parts[1]).samples.paths.tolist() == ["é"]
