from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit import store
from reidkit.errors import (
    ArgumentError,
    FormatError,
    IntegrityError,
    MismatchError,
    ShapeError,
    StoreError,
    UnreadableImage,
)
from reidkit.records import Embeddings, Samples
from reidkit.store import EmbeddingsWriter, Plan

PLAN = Plan("m", "c", dimension=3, batch=2, runtime="fake", device="cpu")


def samples(count: int = 5) -> Samples:
    names = [f"{i}.jpg" for i in range(count)]
    return Samples.from_columns(names, np.arange(count), np.arange(count) % 2)


def vectors(count: int = 5) -> np.ndarray:
    return np.arange(count * 3, dtype=np.float32).reshape(count, 3)


def fill(writer: EmbeddingsWriter, *starts: int) -> None:
    for start in starts:
        writer.append(start, vectors()[start : start + 2], [])


def finish(folder: Path) -> Embeddings:
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        fill(writer, *writer.pending)
        return writer.finish()


def same(a: Embeddings, b: Embeddings) -> bool:
    return (
        np.array_equal(a.vectors, b.vectors)
        and a.samples.paths.tolist() == b.samples.paths.tolist()
        and np.array_equal(a.samples.person_ids, b.samples.person_ids)
        and np.array_equal(a.samples.camera_ids, b.samples.camera_ids)
        and (a.model_sha256, a.contract_sha256, a.unreadable)
        == (b.model_sha256, b.contract_sha256, b.unreadable)
    )


def test_write_and_read(tmp_path: Path) -> None:
    unreadable = (UnreadableImage("bad.jpg", "truncated"),)
    written = Embeddings(vectors(), samples(), "m", "c", unreadable)
    store.write_embeddings(tmp_path / "e", written)
    assert same(store.read_embeddings(tmp_path / "e"), written)


def test_no_rows(tmp_path: Path) -> None:
    written = Embeddings(np.empty((0, 3), np.float32), samples(0))
    store.write_embeddings(tmp_path / "e", written)
    assert same(store.read_embeddings(tmp_path / "e"), written)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), max_size=5))
def test_any_file_name_survives(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("names") / "e"
    row = np.ones((len(names), 3), np.float32)
    store.write_embeddings(folder, Embeddings(row, Samples.from_paths(names)))
    assert store.read_embeddings(folder).samples.paths.tolist() == names


def test_a_name_that_is_not_text_survives(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode(errors="surrogateescape")
    row = Embeddings(np.ones((1, 3), np.float32), Samples.from_paths([name]))
    store.write_embeddings(tmp_path / "e", row)
    assert store.read_embeddings(tmp_path / "e").samples.paths.tolist() == [name]


def test_what_is_not_a_folder_of_embeddings(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist: reidkit embed makes"):
        store.read_embeddings(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="is not an embeddings folder"):
        store.read_embeddings(tmp_path)


def test_overwriting_must_be_asked_for(tmp_path: Path) -> None:
    value = Embeddings(vectors(), samples())
    store.write_embeddings(tmp_path / "e", value)
    with pytest.raises(ArgumentError, match="--overwrite"):
        store.write_embeddings(tmp_path / "e", value)
    store.write_embeddings(tmp_path / "e", value, overwrite=True)


@pytest.mark.parametrize("name", ["vectors.npy", "samples.csv"])
def test_a_changed_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "e"
    store.write_embeddings(folder, Embeddings(vectors(), samples()))
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        store.read_embeddings(folder)
    (folder / name).unlink()
    with pytest.raises(StoreError, match=f"{name} is missing"):
        store.read_embeddings(folder)


def test_another_format_and_a_damaged_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    store.write_embeddings(folder, Embeddings(vectors(), samples()))
    manifest = json.loads((folder / store.MANIFEST).read_text())
    (folder / store.MANIFEST).write_text(json.dumps(manifest | {"format": 7}))
    with pytest.raises(FormatError, match="format 7, this reidkit reads format 1"):
        store.read_embeddings(folder)
    for damaged in ({"format": 1}, manifest | {"sha256": []}, manifest | {"unreadable": 3}):
        (folder / store.MANIFEST).write_text(json.dumps(damaged))
        with pytest.raises(StoreError, match="damaged"):
            store.read_embeddings(folder)
    (folder / store.MANIFEST).write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        store.read_embeddings(folder)


def test_a_writer_fills_a_folder_in_any_order(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        assert writer.pending == [0, 2, 4]
        fill(writer, 4, 0)
        assert writer.pending == [2]
        with pytest.raises(StoreError, match="lacks 1 batches"):
            writer.finish()
        fill(writer, 2)
        made = writer.finish()
    assert same(made, Embeddings(vectors(), samples(), "m", "c"))
    names = sorted(path.name for path in (tmp_path / "e").iterdir())
    assert names == [".lock", "manifest.json", "samples.csv", "vectors.npy"]


def test_an_unfinished_folder_says_how_to_go_on(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        fill(writer, 0)
    with pytest.raises(StoreError, match="unfinished: run the same reidkit embed again"):
        store.read_embeddings(tmp_path / "e")


def test_a_new_writer_goes_on(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        fill(writer, 0)
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        assert writer.pending == [2, 4]
        fill(writer, 2, 4)
        made = writer.finish()
    assert np.array_equal(made.vectors, vectors())


def test_a_finished_folder_has_nothing_pending(tmp_path: Path) -> None:
    finish(tmp_path / "e")
    before = (tmp_path / "e" / "vectors.npy").stat().st_mtime_ns
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        assert writer.pending == []
        assert np.array_equal(writer.finish().vectors, vectors())
    assert (tmp_path / "e" / "vectors.npy").stat().st_mtime_ns == before


def test_a_batch_whose_bytes_were_lost_is_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        fill(writer, 0, 2)
    data = bytearray((folder / "vectors.partial").read_bytes())
    data[-3 * 4 * 3 + 1] ^= 1  # the second picture of the batch that starts at row 2
    (folder / "vectors.partial").write_bytes(data)
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        assert writer.pending == [2, 4]


@pytest.mark.parametrize(
    "torn", [b"[", b"[2, 17", b"[]\n", b"{}\n", b"\n", b"\xff\xfe\n", b"\0\0\n"]
)
def test_a_torn_journal_line_is_ignored(tmp_path: Path, torn: bytes) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        fill(writer, 0)
    with (tmp_path / "e" / "journal.jsonl").open("ab") as file:
        file.write(torn)
    assert np.array_equal(finish(tmp_path / "e").vectors, vectors())


def test_lines_after_a_torn_one_count_again_after_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        fill(writer, 0)
    with (folder / "journal.jsonl").open("a") as file:
        file.write("[2, 17")
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        fill(writer, 2)
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        assert writer.pending == [4]


@pytest.mark.parametrize("left", ["vectors.partial", "journal.jsonl"])
def test_lost_helpers_mean_starting_over(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "e"
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        fill(writer, 0, 2, 4)
    (folder / left).unlink()
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        assert writer.pending == [0, 2, 4]
        fill(writer, 0, 2, 4)
        assert np.array_equal(writer.finish().vectors, vectors())


def test_death_between_the_move_and_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        fill(writer, 0, 2, 4)
    (folder / "vectors.partial").rename(folder / "vectors.npy")
    with EmbeddingsWriter(folder, samples(), PLAN) as writer:
        assert writer.pending == []
        assert np.array_equal(writer.finish().vectors, vectors())


def test_unreadable_rows_are_left_out_and_recorded(tmp_path: Path) -> None:
    bad = UnreadableImage("3.jpg", "truncated")
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        fill(writer, 0, 4)
        writer.append(2, vectors()[2:4], [bad])
        assert writer.unreadable == {2: [bad]}
        made = writer.finish()
    assert made.samples.paths.tolist() == ["0.jpg", "1.jpg", "2.jpg", "4.jpg"]
    assert np.array_equal(made.vectors, vectors()[[0, 1, 2, 4]])
    assert made.unreadable == (bad,)


def test_unreadable_rows_are_remembered_and_can_be_retried(tmp_path: Path) -> None:
    bad = UnreadableImage("3.jpg", "truncated")
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        fill(writer, 0, 4)
        writer.append(2, vectors()[2:4], [bad])
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        assert writer.unreadable == {2: [bad]}
        writer.retry(2)
        assert writer.pending == [2]
        fill(writer, 2)
        assert np.array_equal(writer.finish().vectors, vectors())


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model_sha256": "other"}, "another model"),
        ({"contract_sha256": "other"}, "another input contract"),
        ({"dimension": 4}, r"another vector length \(3, not 4\)"),
        ({"batch": 3}, r"another batch size \(2, not 3\)"),
        ({"runtime": "abacus"}, r"another runtime \(fake, not abacus\)"),
        ({"device": "cuda"}, r"another device \(cpu, not cuda\)"),
    ],
)
def test_another_plan_is_refused(
    tmp_path: Path, change: dict[str, object], word: str, finished: bool
) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        if finished:
            fill(writer, 0, 2, 4)
            writer.finish()
    other = dataclasses.replace(PLAN, **change)  # type: ignore[arg-type]
    with pytest.raises(MismatchError, match=f"{word}.*choose another folder"):
        EmbeddingsWriter(tmp_path / "e", samples(), other)
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN):
        pass  # the refusal let go of the lock


def test_other_samples_are_refused(tmp_path: Path) -> None:
    finish(tmp_path / "e")
    with pytest.raises(MismatchError, match="other pictures or ids"):
        EmbeddingsWriter(tmp_path / "e", samples(4), PLAN)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match=r"holds other things \(thesis.txt\)"):
        EmbeddingsWriter(tmp_path, samples(), PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"], "not even a lock"


def test_a_plan_of_another_format_is_refused(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN):
        pass
    plan = tmp_path / "e" / "plan.json"
    plan.write_text(plan.read_text().replace('"format": 1', '"format": 7'))
    with pytest.raises(FormatError, match="embeddings format 7, this reidkit writes 1"):
        EmbeddingsWriter(tmp_path / "e", samples(), PLAN)
    plan.write_text("{")
    with pytest.raises(StoreError, match="delete the folder to start over"):
        EmbeddingsWriter(tmp_path / "e", samples(), PLAN)


def test_relative_and_absolute_paths_are_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.jpg", "b.jpg"]
    for paths in (names, [str(tmp_path / name) for name in names]):
        with EmbeddingsWriter(tmp_path / "e", Samples.from_paths(paths), PLAN):
            pass


def test_two_writers_at_once(tmp_path: Path) -> None:
    with (
        EmbeddingsWriter(tmp_path / "e", samples(), PLAN),
        pytest.raises(StoreError, match="another process is writing"),
    ):
        EmbeddingsWriter(tmp_path / "e", samples(), PLAN)


def test_a_batch_of_another_shape_is_refused(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path / "e", samples(), PLAN) as writer:
        with pytest.raises(ShapeError, match=r"expected float32 \(1, 3\)"):
            writer.append(4, vectors()[:2], [])
        with pytest.raises(ShapeError, match="float64"):
            writer.append(0, vectors()[:2].astype(np.float64), [])


def test_import_of_vectors_made_elsewhere(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "person_ids": np.arange(5, dtype=np.int32),
        "camera_ids": np.ones(5, np.uint8),
    }
    np.savez(tmp_path / "x.npz", vectors=vectors().astype(np.float64), **columns)
    imported = store.import_embeddings(tmp_path / "x.npz")
    assert np.array_equal(imported.vectors, vectors())
    assert imported.samples.paths.tolist()[0] == "row 0"
    assert imported.model_sha256 is None
    np.savez(tmp_path / "y.npz", vectors=vectors(), paths=["a", "b", "c", "d", "e"], **columns)
    assert store.import_embeddings(tmp_path / "y.npz").samples.paths.tolist()[4] == "e"


def test_import_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    def save(**arrays: Any) -> Path:
        np.savez(tmp_path / "x.npz", **arrays)
        return tmp_path / "x.npz"

    ids = np.arange(5)
    with pytest.raises(StoreError, match="does not exist"):
        store.import_embeddings(tmp_path / "none.npz")
    with pytest.raises(StoreError, match="lacks the arrays camera_ids; it holds vectors, person"):
        store.import_embeddings(save(vectors=vectors(), person_ids=ids))
    with pytest.raises(ShapeError, match=r"person_ids has shape \(4,\), expected \(5,\)"):
        store.import_embeddings(save(vectors=vectors(), person_ids=ids[:4], camera_ids=ids))
    with pytest.raises(ShapeError, match="whole numbers"):
        store.import_embeddings(save(vectors=vectors(), person_ids=ids + 0.5, camera_ids=ids))
    with pytest.raises(ShapeError, match="NaN"):
        store.import_embeddings(save(vectors=vectors() * np.nan, person_ids=ids, camera_ids=ids))
    for bad in (["a"] * 5, np.float32(3), np.ones(5)):
        with pytest.raises(StoreError, match=r"expected numbers \(N, D\)"):
            store.import_embeddings(save(vectors=bad, person_ids=ids, camera_ids=ids))
    for names in ([b"a"] * 5, "abcde", ["a"]):
        with pytest.raises(StoreError, match=r"expected text \(5,\)"):
            store.import_embeddings(
                save(vectors=vectors(), person_ids=ids, camera_ids=ids, paths=names)
            )
    np.savez_compressed(tmp_path / "x.npz", vectors=vectors(), person_ids=ids, camera_ids=ids)
    damaged = bytearray((tmp_path / "x.npz").read_bytes())
    damaged[60:70] = b"\xff" * 10
    (tmp_path / "x.npz").write_bytes(damaged)
    with pytest.raises(StoreError, match=r"not an \.npz file"):
        store.import_embeddings(tmp_path / "x.npz")
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:100])
    with pytest.raises(StoreError, match=r"not an \.npz file"):
        store.import_embeddings(tmp_path / "x.npz")
    np.save(tmp_path / "y.npy", vectors())
    with pytest.raises(StoreError, match="holds one array"):
        store.import_embeddings(tmp_path / "y.npy")
    objects = np.array([{}], dtype=object)
    np.savez(tmp_path / "z.npz", vectors=objects, person_ids=ids, camera_ids=ids)
    with pytest.raises(StoreError, match="plain arrays"):
        store.import_embeddings(tmp_path / "z.npz")
