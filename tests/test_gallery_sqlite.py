"""The gallery's folder: whole or not at all, private, durable, and empty of what was erased."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.errors import FormatError, GalleryError
from reidkit.gallery import (
    _screening,
    _searching,
    _sqlite_connections,
    _sqlite_schema,
    _sqlite_searching,
)
from reidkit.gallery._sqlite import SqliteStore, create
from reidkit.gallery._values import EVERYTHING, Binding, Crops, KeptPictures, Where

SIZE = 16
BINDING = Binding("a" * 64, "b" * 64, SIZE, "model")
MEMORY = 2**20


def draw_vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def fill(store: SqliteStore, person: str, count: int, seed: int = 0) -> NDArray[np.int64]:
    crops = Crops.make(
        count,
        people=[person] * count,
        sources=[f"camera-roll/{person}/{row}.jpg" for row in range(count)],
        digests=[f"{person}-{seed}-{row}" for row in range(count)],
        tags=[(f"tag of {person}",)] * count,
    )
    pictures = [b"picture of " + person.encode() + bytes([row % 256]) * 40 for row in range(count)]
    return store.upsert(crops, draw_vectors(count, seed), pictures, binding=BINDING, actor="tests")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a folder, 100 % Zoë?"
    create(path, BINDING, KeptPictures(), actor="tests")
    return path


@pytest.fixture
def store(folder: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(folder, memory=MEMORY)
    yield opened
    opened.close()


def run_python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a process with this file's names."""
    text = "from tests.test_gallery_sqlite import *\nimport sys\n" + textwrap.dedent(code)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    root = Path(__file__).parent.parent
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


def test_the_folder_is_its_owners_alone(folder: Path, store: SqliteStore) -> None:
    fill(store, "p", 3)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {file.name for file in files} >= {"gallery.sqlite", "gallery.sqlite-wal"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_new_folder_holds_one_file(folder: Path) -> None:
    assert [file.name for file in folder.iterdir()] == ["gallery.sqlite"]
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_a_folder_with_other_things_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="holds a gallery already"):
        create(folder, BINDING, KeptPictures(), actor="x")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(GalleryError, match="other things in it"):
        create(other, BINDING, KeptPictures(), actor="x")
    with pytest.raises(GalleryError, match="no gallery can be made"):
        create(other / "notes.txt" / "under", BINDING, KeptPictures(), actor="x")
    assert [entry.name for entry in other.iterdir()] == ["notes.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    create(empty, BINDING, KeptPictures(), actor="x")
    SqliteStore(empty, memory=MEMORY).close()


def test_nothing_is_left_of_a_gallery_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(_sqlite_schema, "insert_binding", fail)
    with pytest.raises(GalleryError, match="no space"):
        create(tmp_path / "gallery", BINDING, KeptPictures(), actor="x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_gallery_says_how_to_make_one(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(GalleryError, match="reidkit gallery create"):
            SqliteStore(place, memory=MEMORY)
    assert list(tmp_path.iterdir()) == []


def change_database(folder: Path, statement: str) -> None:
    connection = sqlite3.connect(folder / "gallery.sqlite")
    try:
        connection.execute(statement)
        connection.commit()
    finally:
        connection.close()


def test_another_format_number_says_which_is_read(folder: Path) -> None:
    change_database(folder, "PRAGMA user_version = 2")
    with pytest.raises(FormatError, match=r"format number 2, .* reads 1: use a newer"):
        SqliteStore(folder, memory=MEMORY)


def test_a_foreign_database_is_refused(folder: Path) -> None:
    change_database(folder, "PRAGMA application_id = 7")
    with pytest.raises(GalleryError, match="not a gallery's database"):
        SqliteStore(folder, memory=MEMORY)
    (folder / "gallery.sqlite").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(GalleryError, match="not a database: restore a copy"):
        SqliteStore(folder, memory=MEMORY)


def test_a_damaged_database_says_what_to_do(folder: Path) -> None:
    store = SqliteStore(folder, memory=MEMORY)
    fill(store, "p", 300)
    store.close()
    file = folder / "gallery.sqlite"
    data = bytearray(file.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    file.write_bytes(data)
    with pytest.raises(GalleryError, match="damaged"):
        store = SqliteStore(folder, memory=MEMORY)
        try:
            store.search(draw_vectors(1), 1, EVERYTHING)
        finally:
            store.close()


def test_a_full_disk_changes_nothing(store: SqliteStore) -> None:
    fill(store, "p", 5)
    with store._connections.write_alone() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(GalleryError, match="disk is full, and nothing was changed"):
        fill(store, "q", 2000)
    assert store.count(EVERYTHING) == 5
    assert len(store.audit()) == 2
    with store._connections.write_alone() as connection:
        connection.execute("PRAGMA max_page_count = 1073741823")
    assert len(fill(store, "q", 2000)) == 2000


def test_what_another_process_holds_for_long_is_an_error(
    folder: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sqlite_connections, "PATIENCE", 0.01)
    impatient = SqliteStore(folder, memory=MEMORY)
    try:
        with (
            store._connections.write(),
            pytest.raises(GalleryError, match="another process has been using it"),
        ):
            impatient.note("search", 1, actor="x")
        impatient.note("search", 1, actor="x")
    finally:
        impatient.close()


def test_the_audit_cannot_be_changed(folder: Path) -> None:
    for statement in ("UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="the audit is never"):
            change_database(folder, statement)


def test_a_killed_process_loses_nothing_acknowledged(folder: Path) -> None:
    writer = run_python(
        """
        store = SqliteStore(Path(sys.argv[1]), memory=MEMORY)
        for seed in range(100000):
            fill(store, "p", 50, seed)
            print(seed, flush=True)
        """,
        folder,
    )
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(20)]
    writer.kill()
    acknowledged += writer.stdout.readlines()
    writer.stdout.close()
    writer.wait()
    batches = len([line for line in acknowledged if line.endswith("\n")])
    store = SqliteStore(folder, memory=MEMORY)
    try:
        kept = store.count(EVERYTHING)
        assert kept >= 50 * batches >= 1000
        assert kept % 50 == 0  # no half batch
        assert len([line for line in store.audit() if line.action == "enrol"]) * 50 == kept
        vectors = draw_vectors(50, batches - 1)
        found = store.search(vectors, 1, EVERYTHING)
        assert store.read(found.ids[:, 0]).digests.tolist() == [
            f"p-{batches - 1}-{row}" for row in range(50)
        ]
    finally:
        store.close()


def test_processes_write_at_once(folder: Path, store: SqliteStore) -> None:
    code = """
        store = SqliteStore(Path(sys.argv[1]), memory=MEMORY)
        for seed in range(20):
            fill(store, sys.argv[2], 5, seed)
        store.remove(Where(people=("gone",)), actor="x")
        """
    writers = [run_python(code, folder, person) for person in ("one", "two")]
    fill(store, "gone", 5, seed=99)
    for seed in range(20):
        fill(store, "three", 5, seed)
        store.search(draw_vectors(1), 3, EVERYTHING)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    assert [(person.name, person.crops) for person in store.list_people()] == [
        (name, 100) for name in ("one", "three", "two")
    ]
    best = store.search(draw_vectors(5, seed=99), 300, EVERYTHING)
    assert len(np.unique(best.ids[best.ids >= 0])) == 300


def find_traces(folder: Path, person: str, vectors: NDArray[np.float32]) -> list[str]:
    """List what is found of a person in the bytes of any file of the folder."""
    wanted = {
        "name": person.encode(),
        "source": f"camera-roll/{person}".encode(),
        "tag": f"tag of {person}".encode(),
        "picture": b"picture of " + person.encode(),
    } | {f"vector {row}": vector.tobytes()[:16] for row, vector in enumerate(vectors)}
    files = [file.read_bytes() for file in folder.iterdir()]
    return [what for what, trace in wanted.items() if any(trace in data for data in files)]


def test_an_erased_person_is_in_no_file(folder: Path, store: SqliteStore) -> None:
    other = SqliteStore(folder, memory=0)
    try:
        for seed in range(8):  # pages are split, so that values are moved about
            fill(store, f"someone {seed}", 40, seed)
            fill(store, "Jane Q. Roe", 20, 100 + seed)
        hers = np.concatenate([draw_vectors(20, 100 + seed) for seed in range(8)])
        other.search(hers, 3, EVERYTHING)
        begun = Binding("n" * 64, "b" * 64, SIZE)
        store.start_rebinding(begun)
        store.add_vectors(np.arange(1, 400), draw_vectors(399, seed=1000), binding=begun)
        assert len(find_traces(folder, "Jane Q. Roe", hers)) == 4 + len(hers)
        store.facts(measure=True)
        jane = Where(people=("Jane Q. Roe",))
        ids = [crop for part, _ in store.export(jane) for crop in part.ids.tolist()]
        newer = draw_vectors(399, seed=1000)[[crop - 1 for crop in ids if crop < 400]]
        assert store.remove(jane, actor="x") == 160
        store.compact(actor="x")
        assert find_traces(folder, "Jane Q. Roe", np.concatenate([hers, newer])) == []
        assert (folder / "gallery.sqlite-wal").stat().st_size == 0
        for one in (store, other):
            assert not set(ids) & set(one.search(hers[:3], 9, EVERYTHING).ids.ravel().tolist())
        assert len(find_traces(folder, "someone 3", draw_vectors(40, 3))) == 44
    finally:
        other.close()


def test_the_older_models_vectors_are_in_no_file(folder: Path, store: SqliteStore) -> None:
    ids = fill(store, "p", 300)
    newer = Binding("n" * 64, "b" * 64, SIZE)
    store.start_rebinding(newer)
    store.add_vectors(ids, draw_vectors(300, seed=5), binding=newer)
    store.finish_rebinding(binding=newer, dropping=ids[:0], actor="x")
    store.compact(actor="x")
    assert find_traces(folder, "nobody", draw_vectors(300)) == []
    assert len(find_traces(folder, "p", draw_vectors(300, seed=5))) == 304


def test_every_connection_overwrites_and_syncs(store: SqliteStore) -> None:
    settings = {"secure_delete": 1, "synchronous": 2, "foreign_keys": 1, "temp_store": 2}
    store.compact(actor="x")
    with store._connections.read() as reader, store._connections.write() as writer:
        for connection in (reader, writer):
            for name, value in settings.items():
                assert connection.execute(f"PRAGMA {name}").fetchone() == (value,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see open files")
def test_compacting_writes_nowhere_but_in_the_folder(folder: Path, store: SqliteStore) -> None:
    crops = Crops.make(30, people=["p"] * 30, digests=[str(row) for row in range(30)])
    pictures = [bytes([row]) * 2**20 for row in range(30)]
    store.upsert(crops, draw_vectors(30), pictures, binding=BINDING, actor="x")
    written: set[Path] = set()

    def look() -> int:
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                written.add(entry.readlink())
        return 0

    look()
    before = set(written)
    with store._connections.write_alone() as connection:
        connection.set_progress_handler(look, 10)
    store.compact(actor="x")
    new = [path for path in written - before if path.is_absolute() and path.parts[1] != "proc"]
    assert any(path.name.endswith("(deleted)") for path in new)  # SQLite's temporary file
    assert {path.parent for path in new} == {folder.absolute()}


def test_compacting_gives_back_space(folder: Path, store: SqliteStore) -> None:
    fill(store, "p", 2000)
    before = store.facts().disk
    store.remove(EVERYTHING, actor="x")
    store.compact(actor="x")
    assert store.facts().disk < before / 4
    assert sorted(file.name for file in folder.iterdir()) == [
        "gallery.sqlite",
        "gallery.sqlite-shm",
        "gallery.sqlite-wal",
    ]


def test_compacting_beside_a_reader_that_stays_says_so(
    folder: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "p", 10)
    monkeypatch.setattr(_sqlite_connections, "PATIENCE", 0.01)
    impatient = SqliteStore(folder, memory=MEMORY)
    try:
        with store._connections.read() as connection:
            connection.execute("SELECT * FROM crop").fetchall()
            with pytest.raises(GalleryError, match="compact again"):
                impatient.compact(actor="x")
        impatient.compact(actor="x")
    finally:
        impatient.close()


def test_compacting_beside_somebody_who_writes_the_log_out(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite does not wait for another connection that is at a checkpoint: it says busy at once."""
    fill(store, "p", 10)
    answers = iter([1, 1, 0])
    lend = store._connections.write_alone

    class Busy:
        """The connection, which is told twice that another one is at it."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, statement: str, *values: Any) -> Any:
            if "wal_checkpoint" in statement and next(answers):
                return self.connection.execute("SELECT 1, 9, 0")
            return self.connection.execute(statement, *values)

    @contextlib.contextmanager
    def lend_busy() -> Iterator[Busy]:
        with lend() as connection:
            yield Busy(connection)

    monkeypatch.setattr(store._connections, "write_alone", lend_busy)
    store.compact(actor="x")
    assert next(answers, None) is None


def test_facts_say_how_it_searches(folder: Path, store: SqliteStore) -> None:
    fill(store, "p", 100)
    facts = store.facts()
    assert facts.recall is None
    assert facts.search == "exact, float32 in memory"
    assert facts.memory == 100 * (41 + 5 * SIZE)
    files = [folder / "gallery.sqlite", folder / "gallery.sqlite-wal"]
    assert facts.disk == sum(file.stat().st_size for file in files)
    assert store.facts(measure=True).recall == 1.0
    small = SqliteStore(folder, memory=100)
    try:
        facts = small.facts()
        assert facts.recall == 1.0  # as it was last measured
        assert facts.search == "exact: int8 first pass, float32 from disk"
        assert facts.memory == 100 * (41 + SIZE)
    finally:
        small.close()


def test_recall_is_measured_not_claimed(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "p", 100)
    search = _searching.find_best
    monkeypatch.setattr(
        _sqlite_searching,
        "find_best",
        lambda searched, queries, count, mask: search(
            searched, queries, count, searched.ids % 2 == 0
        ),
    )
    recall = store.facts(measure=True).recall
    assert recall is not None
    assert 0.2 < recall < 0.8


def test_recall_is_that_of_single_searches_and_the_lower_of_two(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As people search: by the pass in eight bits, and under a filter."""
    fill(store, "p", 100)
    for place, camera in enumerate(("gate", "gate", "door")):
        crops = Crops.make(
            60,
            people=["q"] * 60,
            cameras=[camera] * 60,
            digests=[f"{place}-{row}" for row in range(60)],
        )
        store.upsert(crops, draw_vectors(60, place + 1), [None] * 60, binding=BINDING, actor="x")
    multiply, find_best = _screening.multiply_codes, _searching.find_best
    masks: list[int] = []

    def count_masks(*arguments: Any) -> Any:
        masks.append(-1 if arguments[3] is None else int(np.count_nonzero(arguments[3])))
        return find_best(*arguments)

    monkeypatch.setattr(_sqlite_searching, "find_best", count_masks)
    assert store.facts(measure=True).recall == 1.0
    assert masks == [-1] * 64 + [120] * 64
    monkeypatch.setattr(_screening, "multiply_codes", lambda *both: -multiply(*both))
    whole = store.facts(measure=True).recall
    assert whole is not None
    assert whole < 0.5
    monkeypatch.setattr(_screening, "multiply_codes", multiply)

    def lose_filtered(*arguments: Any) -> Any:
        found = find_best(*arguments)
        if found is not None and arguments[3] is not None:
            found.scores[:] = -1
        return found

    monkeypatch.setattr(_sqlite_searching, "find_best", lose_filtered)
    assert store.facts(measure=True).recall == 0.0


def test_a_search_begins_anew_when_rows_vanish(folder: Path) -> None:
    store = SqliteStore(folder, memory=0)
    other = SqliteStore(folder, memory=0)
    try:
        ids = fill(store, "p", 50)
        vectors = draw_vectors(50)
        searcher = store._searcher
        read = searcher._read

        def erase_first(generation: int, wanted: NDArray[np.int64]) -> object:
            other.remove(Where(without=tuple(ids[10:].tolist())), actor="x")
            return read(generation, wanted)

        searcher._read = erase_first  # type: ignore[assignment,method-assign]
        found = store.search(vectors[:1], 3, EVERYTHING)
        assert np.all(found.ids > ids[9])
        assert store.rank_people(vectors[0], 3, EVERYTHING) == ["p"]
        assert found.ids.shape == (1, 3)
    finally:
        store.close()
        other.close()


def test_a_copied_folder_is_the_same_gallery(folder: Path, tmp_path: Path) -> None:
    store = SqliteStore(folder, memory=MEMORY)
    ids = fill(store, "p", 10)
    store.close()
    assert [file.name for file in folder.iterdir()] == ["gallery.sqlite"]
    shutil.copytree(folder, tmp_path / "copy")
    copied = SqliteStore(tmp_path / "copy", memory=MEMORY)
    try:
        assert copied.search(draw_vectors(10), 1, EVERYTHING).ids[:, 0].tolist() == ids.tolist()
    finally:
        copied.close()


@pytest.mark.parametrize("size", [1, 128, 256, 512, 768, 1024, 2048, 4096])
def test_pages_hold_whole_vectors(size: int) -> None:
    page = _sqlite_schema._choose_page(size)
    assert page // (4 * size + 12) * 4 * size > 0.7 * page or size == 1
