"""The store in PostgreSQL: what the contract of all stores does not ask, on a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.errors import FormatError, GalleryError, MissingExtraError, ShapeError
from reidkit.gallery._stores import create_store, open_store
from reidkit.gallery._values import EVERYTHING, Binding, Crops, KeptPictures, Where
from tests.pictures import skip_without

if TYPE_CHECKING:
    from reidkit.gallery._postgres import PostgresStore

pytest_plugins = ["tests.postgres_server"]

BINDING = Binding("a" * 64, "c" * 64, 16, "models/small")
OTHER = Binding("b" * 64, "c" * 64, 8, "models/other")
NONE = np.zeros(0, np.int64)
PICTURE = b"\x89PNG a picture of nobody"


@pytest.fixture
def store(postgres_dsn: str) -> Iterator[PostgresStore]:
    with_store = make_store(postgres_dsn)
    yield with_store
    with_store.close()


def make_store(dsn: str, binding: Binding = BINDING) -> PostgresStore:
    from reidkit.gallery._postgres import PostgresStore

    create_store(dsn, binding, KeptPictures(), actor="tests")
    opened = open_store(dsn)
    assert isinstance(opened, PostgresStore)
    return opened


def draw_vectors(count: int, *, seed: int = 0, dimension: int = 16) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    units: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units


def make_crops(count: int, *, first: int = 0, **columns: object) -> Crops:
    values = {
        "people": [f"person {(first + row) // 4}" for row in range(count)],
        "cameras": [f"c{row % 10 // 9}" for row in range(count)],
        "digests": [f"{first + row:064x}" for row in range(count)],
        "tags": [("door",)] * count,
    }
    return Crops.make(count, **(values | columns))


def fill(store: PostgresStore, count: int, *, first: int = 0, seed: int = 0) -> NDArray[np.int64]:
    return store.upsert(
        make_crops(count, first=first),
        draw_vectors(count, seed=seed),
        [PICTURE] * count,
        binding=BINDING,
        actor="tests",
    )


def run_sql(dsn: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query, values or None)
        return cursor.fetchall() if cursor.description else []


def end_backends(dsn: str) -> int:
    """End every other session of a database, as a restart of the server does."""
    ended = run_sql(
        dsn,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'",
    )
    return len(ended)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://anna:s3cret@127.0.0.1:1/faces",
        "postgresql://anna:s3cret@/faces?host=/nowhere/at/all",
        "postgresql://anna:s3cret@127.0.0.1:s3cret/faces",
        "postgresql://anna:s3cret%zz@127.0.0.1/faces",
        "postgresql://127.0.0.1:1/faces?password=s3cret&sslmode=s3cret",
        "postgresql:///faces?nonsense=s3cret",
        "postgresql://anna:with@s3cret@127.0.0.1/faces",
        "postgresql://anna:12/s3cret@127.0.0.1/faces",
    ],
)
@pytest.mark.parametrize("make", [True, False])
def test_a_server_that_is_not_there_is_an_error_without_the_password(dsn: str, make: bool) -> None:
    skip_without("psycopg")
    skip_without("pgvector")
    with pytest.raises(GalleryError) as caught:
        create_store(dsn, BINDING, KeptPictures(), actor="tests") if make else open_store(dsn)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "host" in str(caught.value)


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import reidkit.gallery

    for name in [name for name in sys.modules if name.startswith("reidkit.gallery._postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(reidkit.gallery, "_postgres", raising=False)
    monkeypatch.setitem(sys.modules, "pgvector.psycopg", None)
    monkeypatch.setitem(sys.modules, "pgvector", None)
    with pytest.raises(MissingExtraError, match=r"reidkit\[postgres\]"):
        open_store("postgresql:///faces")


def test_a_database_without_a_gallery_says_so(postgres_dsn: str) -> None:
    with pytest.raises(GalleryError, match="gallery create"):
        open_store(postgres_dsn)
    run_sql(postgres_dsn, "CREATE SCHEMA reidkit")  # somebody else's
    with pytest.raises(GalleryError, match="gallery create"):
        open_store(postgres_dsn)
    with pytest.raises(GalleryError, match="already"):
        create_store(postgres_dsn, BINDING, KeptPictures(), actor="tests")


def test_another_format_is_refused(store: PostgresStore, postgres_dsn: str) -> None:
    run_sql(postgres_dsn, "UPDATE reidkit.gallery SET format = 2")
    with pytest.raises(FormatError, match="format 2"):
        open_store(postgres_dsn)


def test_what_cannot_be_made_leaves_nothing(postgres_dsn: str) -> None:
    with pytest.raises(GalleryError, match="16000"):
        create_store(
            postgres_dsn, Binding("a" * 64, "c" * 64, 20_000), KeptPictures(), actor="tests"
        )
    assert run_sql(postgres_dsn, "SELECT to_regnamespace('reidkit')") == [(None,)]
    make_store(postgres_dsn).close()


def test_of_two_that_make_a_gallery_one_does(postgres_dsn: str) -> None:
    def attempt(_: int) -> str:
        try:
            create_store(postgres_dsn, BINDING, KeptPictures(), actor="tests")
        except GalleryError as error:
            return str(error)
        return "made"

    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(attempt, range(4)))
    assert told.count("made") == 1
    open_store(postgres_dsn).close()


@pytest.mark.parametrize("failure", ["FeatureNotSupported", "InsufficientPrivilege"])
def test_a_server_without_pgvector_says_how_to_get_it(failure: str) -> None:
    skip_without("psycopg")
    skip_without("pgvector")
    from psycopg import errors

    from reidkit.gallery import _postgres_schema

    class Refusing:
        def execute(self, query: str) -> None:
            raise getattr(errors, failure)

    advice = {"FeatureNotSupported": "install", "InsufficientPrivilege": "administrator"}
    refusing: Any = Refusing()
    with pytest.raises(GalleryError, match=advice[failure]):
        _postgres_schema._make_extension(refusing, "database")


def test_a_user_who_owns_the_database_alone_can_do_everything(
    postgres_dsn: str, new_postgres_dsn: Callable[[], str]
) -> None:
    role = f"plain_{os.getpid()}"
    run_sql(postgres_dsn, f"CREATE ROLE {role} LOGIN")
    try:
        dsn = new_postgres_dsn()
        run_sql(dsn, "CREATE EXTENSION vector")
        run_sql(dsn, f"GRANT CREATE ON DATABASE {dsn.split('/')[3].split('?')[0]} TO {role}")
        plain = make_store(dsn.replace("postgres@", f"{role}@"))
        fill(plain, 8)
        assert plain.remove(Where(people=("person 0",)), actor="tests") == 4
        plain.compact(actor="tests")
        plain.build_index(actor="tests")
        assert plain.count(EVERYTHING) == 4
        plain.close()
        run_sql(dsn, f"DROP OWNED BY {role}")
    finally:
        run_sql(postgres_dsn, f"DROP ROLE {role}")


def test_the_audit_cannot_be_changed(store: PostgresStore, postgres_dsn: str) -> None:
    import psycopg

    store.note("search", 3, actor="key:door")
    before = store.audit()
    for change in ("UPDATE {} SET actor = 'nobody'", "DELETE FROM {}", "TRUNCATE {}"):
        with pytest.raises(psycopg.Error, match="only added to"):
            run_sql(postgres_dsn, change.format("reidkit.audit"))
    assert store.audit() == before
    assert [(line.action, line.actor, line.count) for line in before] == [
        ("search", "key:door", 3),
        ("create", "tests", 0),
    ]


def test_paths_that_are_no_text_are_kept(store: PostgresStore) -> None:
    source = os.fsdecode(b"pictures/\xff\xfe.jpg")
    ids = store.upsert(
        make_crops(1, sources=[source]), draw_vectors(1), [None], binding=BINDING, actor="tests"
    )
    assert store.read(ids).sources.tolist() == [source]


def test_many_queries_find_what_one_does(store: PostgresStore) -> None:
    vectors = draw_vectors(600)
    vectors[300:330] = vectors[7]  # ties go by id
    crops = make_crops(600)
    ids = store.upsert(crops, vectors, [None] * 600, binding=BINDING, actor="tests")
    queries = np.concatenate([draw_vectors(6, seed=1), vectors[7:8]])
    for where, count in ((EVERYTHING, 5), (Where(cameras=("c1",)), 7), (Where(tags=("no",)), 2)):
        together = store.search(queries, count, where)
        for place, query in enumerate(queries):
            alone = store.search(query[None], count, where)
            assert together.ids[place].tolist() == alone.ids[0].tolist()
            assert together.scores[place].tolist() == alone.scores[0].tolist()
    assert together.ids.tolist() == [[-1, -1]] * 7
    ties = store.search(queries, 20, EVERYTHING).ids[6]
    assert ties.tolist() == [ids[7], *ids[300:319]]


def test_countless_ties_stay_within_bounds(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reidkit.gallery import _postgres_exact

    monkeypatch.setattr(_postgres_exact, "_TIES", 8)
    monkeypatch.setattr(_postgres_exact, "_BLOCK", 16)
    monkeypatch.setattr(_postgres_exact, "_TOGETHER", 2)
    vectors = np.repeat(draw_vectors(1), 600, axis=0)
    ids = store.upsert(make_crops(600), vectors, [None] * 600, binding=BINDING, actor="tests")
    found = store.search(vectors[:5], 3, EVERYTHING)
    assert found.ids.tolist() == [ids[:3].tolist()] * 5


def test_the_index_finds_nearly_everything_under_a_filter(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reidkit.gallery import _postgres_index

    monkeypatch.setattr(_postgres_index, "INDEX_LEAST", 150)
    monkeypatch.setattr(_postgres_index, "_WORTH", 0)
    store = make_store(postgres_dsn)
    fill(store, 1600)
    exact = "exact, float32; PostgreSQL"
    facts = store.facts(measure=True)
    assert facts.search.startswith(exact)
    assert facts.recall is None
    queries = draw_vectors(20, seed=2)
    filters = (EVERYTHING, Where(cameras=("c1",)), Where(cameras=("c0",), tags=("door",)))
    before = [store.search(queries, 10, where) for where in filters]
    store.build_index(actor="cli:tests")
    after = [store.search(queries, 10, where) for where in filters]
    for true, found in zip(before, after, strict=True):
        same = [len(set(a) & set(b)) for a, b in zip(true.ids, found.ids, strict=True)]
        assert sum(same) >= 0.99 * 200
        assert np.all(np.diff(found.scores, axis=1) <= 0)
        hit = true.ids == found.ids
        np.testing.assert_array_equal(true.scores[hit], found.scores[hit])
    with store._connections.transaction("BEGIN; SELECT pg_stat_force_next_flush()"):
        pass
    used = run_sql(
        postgres_dsn, "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname LIKE '%near'"
    )
    assert used[0][0] > 0
    facts = store.facts(measure=True)
    assert facts.recall is not None
    assert facts.recall >= 0.99
    assert "HNSW" in facts.search
    for query in queries[:5]:  # the index gives its people; few of them, or many are asked for
        for where, count in ((EVERYTHING, 2), (filters[1], 2), (EVERYTHING, 50)):
            whole = store.search(query[None], 1600, where).ids[0]
            owners = store.read(whole[whole >= 0]).people.tolist()
            assert store.rank_people(query, count, where) == list(dict.fromkeys(owners))[:count]
    assert store.facts().recall == facts.recall
    assert store.audit(limit=1)[0].action == "index"
    store.close()


def test_an_index_that_gives_up_is_not_believed(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reidkit.gallery import _postgres_exact, _postgres_index

    store = make_store(postgres_dsn)
    fill(store, 600)
    store.build_index(actor="tests")
    queries, where = draw_vectors(3, seed=5), Where(cameras=("c1",))
    exact = store.search(queries, 10, where)  # few enough: exact
    asked: list[Where] = []
    find_exact = _postgres_exact.find_exact

    def find(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return find_exact(*arguments)

    monkeypatch.setattr(_postgres_index, "find_exact", find)
    monkeypatch.setattr(_postgres_index, "INDEX_LEAST", 59)
    monkeypatch.setattr(_postgres_index, "_WORTH", 0)
    monkeypatch.setattr(_postgres_index, "_WIDTH_FILTERED", 200)
    monkeypatch.setitem(_postgres_index._PLAN, "hnsw.iterative_scan", "off")
    monkeypatch.setitem(_postgres_index._PLAN, "hnsw.max_scan_tuples", "1")
    found = store.search(queries, 7, where)
    assert found.ids.tolist() == exact.ids[:, :7].tolist()
    assert asked == [where]
    store.close()


def test_the_index_goes_with_the_vectors_it_was_of(store: PostgresStore) -> None:
    ids = fill(store, 40)
    store.build_index(actor="tests")
    store.start_rebinding(OTHER)
    store.add_vectors(ids, draw_vectors(40, dimension=8), binding=OTHER)
    assert store.finish_rebinding(binding=OTHER, dropping=NONE, actor="tests") == 0
    assert store.binding() == OTHER
    facts = store.facts(measure=True)
    assert facts.search.startswith("exact, float32, the older model's HNSW index was dropped")
    assert facts.recall is None
    store.build_index(actor="tests")
    assert "HNSW index (float16)" in store.facts().search


def test_vectors_too_long_for_an_index_are_searched_exactly(postgres_dsn: str) -> None:
    store = make_store(postgres_dsn, Binding("a" * 64, "c" * 64, 4001))
    with pytest.raises(GalleryError, match="4001"):
        store.build_index(actor="tests")
    vectors = draw_vectors(3, dimension=4001)
    ids = store.upsert(make_crops(3), vectors, [None] * 3, binding=store.binding(), actor="tests")
    assert store.search(vectors, 1, EVERYTHING).ids[:, 0].tolist() == ids.tolist()
    store.close()


def test_a_restarted_server_is_connected_to_again(store: PostgresStore, postgres_dsn: str) -> None:
    fill(store, 4)
    assert end_backends(postgres_dsn) >= 1
    assert store.count(EVERYTHING) == 4
    with ThreadPoolExecutor(4) as threads:  # several idle connections are broken at once
        list(threads.map(lambda _: store.search(draw_vectors(1), 1, EVERYTHING), range(8)))
    end_backends(postgres_dsn)
    assert len(fill(store, 4, first=4)) == 4


def test_a_connection_lost_midway_keeps_nothing(store: PostgresStore, postgres_dsn: str) -> None:
    class Cutting(list[bytes | None]):
        """Pictures that end the session when the first of them is read."""

        def __getitem__(self, row: Any) -> Any:
            if row == 5:
                end_backends(postgres_dsn)
            return super().__getitem__(row)

    crops, vectors = make_crops(8), draw_vectors(8)
    with pytest.raises(GalleryError, match=r"broke off.*Nothing"):
        store.upsert(crops, vectors, Cutting([PICTURE] * 8), binding=BINDING, actor="tests")
    assert store.count(EVERYTHING) == 0
    assert [line.action for line in store.audit()] == ["create"]
    assert len(fill(store, 8)) == 8


CLIENT = """
import sys, json
sys.path.insert(0, ".")
from tests.test_gallery_postgres import fill
from reidkit.gallery._stores import open_store
store = open_store(sys.argv[1])
for batch in range(int(sys.argv[2]), int(sys.argv[3])):
    ids = fill(store, 50, first=50 * batch, seed=batch)
    print(json.dumps(ids.tolist()), flush=True)
"""


def start_client(dsn: str, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, dsn, str(first), str(last)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )


def test_a_killed_client_loses_nothing_acknowledged(
    store: PostgresStore, postgres_dsn: str
) -> None:
    client = start_client(postgres_dsn, 0, 10_000)
    assert client.stdout is not None
    lines = [client.stdout.readline() for _ in range(5)]
    client.send_signal(signal.SIGKILL)
    lines += client.stdout.read().splitlines()
    client.wait()
    client.stdout.close()
    acknowledged = [crop for line in lines if line.endswith("]\n") for crop in json.loads(line)]
    assert len(store.read(np.array(acknowledged, np.int64))) == len(acknowledged)
    kept = store.count(EVERYTHING)
    assert kept % 50 == 0
    for table in ("vector_1", "picture", "tag"):
        assert run_sql(postgres_dsn, f"SELECT count(*) FROM reidkit.{table}") == [(kept,)]
    assert sum(line.count for line in store.audit() if line.action == "enrol") == kept
    assert len(fill(store, 4)) == 4  # what was locked is free again


def test_two_processes_write_the_same_people(store: PostgresStore, postgres_dsn: str) -> None:
    clients = [start_client(postgres_dsn, first, 6) for first in (0, 2)]
    given: list[int] = []
    for client in clients:
        told, _ = client.communicate(timeout=60)
        assert client.returncode == 0
        given += [crop for line in told.splitlines() for crop in json.loads(line)]
    assert len(given) == len(set(given)) == 500
    assert store.count(EVERYTHING) == 300
    (ids,) = (crops.ids for crops, _ in store.export(EVERYTHING))
    assert set(ids.tolist()) <= set(given)


def test_many_threads_do_everything_at_once(store: PostgresStore) -> None:
    fill(store, 40)

    def work(worker: int) -> None:
        for turn in range(3):
            first = 1000 * worker
            ids = fill(store, 8, first=first, seed=worker)
            found = store.search(draw_vectors(3 if turn else 1), 2, EVERYTHING)
            assert np.all(found.ids >= 0)
            assert len(store.read(ids)) == 8
            people = tuple(f"person {(first + row) // 4}" for row in (0, 4))
            assert store.remove(Where(people=people), actor="tests") == 8

    with ThreadPoolExecutor(16) as threads:  # more than there are connections
        list(threads.map(work, range(1, 17)))
    assert store.count(EVERYTHING) == 40


def test_readers_do_not_stumble_over_a_switch_of_models(
    store: PostgresStore, postgres_dsn: str
) -> None:
    ids = fill(store, 300)
    pages = store.export(EVERYTHING, batch=100)
    next(pages)
    stop = threading.Event()

    def read() -> int:
        turns = 0
        while not stop.is_set():
            dimension = store.binding().dimension
            with suppress(ShapeError):  # switched between the two calls
                store.search(draw_vectors(3, dimension=dimension), 2, EVERYTHING)
            assert store.count(EVERYTHING) == 300
            turns += 1
        return turns

    with ThreadPoolExecutor(3) as threads:
        readers = [threads.submit(read) for _ in range(3)]
        try:
            for size in (8, 16, 8, 16):
                other = Binding(f"{size:064}", "c" * 64, size)
                store.start_rebinding(other)
                store.add_vectors(ids, draw_vectors(300, dimension=size), binding=other)
                store.finish_rebinding(binding=other, dropping=NONE, actor="tests")
        finally:
            stop.set()
        assert all(reader.result() > 0 for reader in readers)
    with pytest.raises(GalleryError, match="export anew"):
        next(pages)
    tables = run_sql(postgres_dsn, "SELECT count(*) FROM pg_tables WHERE tablename ~ '^vector_'")
    assert tables == [(1,)]


def holds(folder: Path, *needles: bytes) -> list[str]:
    """Name the files below a folder that hold any of some bytes."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def test_what_was_erased_is_not_in_the_database_s_files(
    store: PostgresStore, postgres_dsn: str, postgres_server: Any
) -> None:
    name, tag, source = "Erased Elsewhere", "wears-a-green-hat", "yard/erased-elsewhere.jpg"
    fill(store, 100)
    vectors = draw_vectors(40, seed=9)
    crops = make_crops(
        40, first=1000, people=[name] * 40, tags=[(tag,)] * 40, sources=[source] * 40
    )
    picture = b"\x89PNG of the erased" + os.urandom(3000)
    ids = store.upsert(crops, vectors, [picture] * 40, binding=BINDING, actor="tests")
    store.start_rebinding(OTHER)
    others = draw_vectors(40, seed=10, dimension=8)
    store.add_vectors(ids, others, binding=OTHER)
    store.build_index(actor="tests")
    run_sql(postgres_dsn, "ANALYZE")
    run_sql(postgres_dsn, "CHECKPOINT")
    needles = [name.encode(), tag.encode(), source.encode(), picture[-500:]]
    needles += [crops.digests[0].encode(), vectors[3].tobytes(), others[3].tobytes()]
    (oid,) = run_sql(
        postgres_dsn, "SELECT oid::text FROM pg_database WHERE datname = current_database()"
    )[0]
    base = Path(postgres_server.folder) / "base"
    for needle in needles:
        assert holds(base / oid, needle), needle
    assert store.remove(Where(people=(name,)), actor="tests") == 40
    store.compact(actor="tests")
    assert holds(base, *needles) == []
    assert store.count(EVERYTHING) == 100
    assert store.audit(limit=1)[0].action == "compact"


def test_compacting_waits_for_who_still_sees_what_was_erased(
    store: PostgresStore, postgres_dsn: str
) -> None:
    import psycopg

    from reidkit.gallery._postgres_compacting import rewrite_tables

    fill(store, 8)
    with (
        psycopg.connect(postgres_dsn) as onlooker,
        psycopg.connect(postgres_dsn, autocommit=True) as connection,
    ):
        onlooker.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        onlooker.execute("SELECT 1 FROM pg_class LIMIT 1")
        store.remove(Where(people=("person 0",)), actor="tests")
        with pytest.raises(GalleryError, match="4 erased rows"):
            rewrite_tables(connection, patience=0.1)
        onlooker.rollback()
        rewrite_tables(connection, patience=5)
    assert store.count(EVERYTHING) == 4
