"""Connections to a PostgreSQL server: a few, reused, replaced where the server let go of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from reidkit.errors import GalleryError, MissingExtraError

try:
    import pgvector.psycopg
    import psycopg
    from psycopg import conninfo, errors
except ImportError as error:
    raise MissingExtraError("psycopg", "postgres") from error

Cursor = psycopg.Cursor[Any]
Connection = psycopg.Connection[Any]

CONNECTIONS = 8
"""The most connections that one store holds."""

_PATIENCE = 60.0
"""Seconds that a thread waits for one of them."""

_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "application_name": "reidkit",
}
"""What a DSN leaves open: a server that is gone is noticed, never waited for without end."""

_SETTINGS = """
SELECT to_regtype(set_config('search_path', coalesce((
           SELECT quote_ident(n.nspname) FROM pg_extension e
           JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'), 'public'),
           false) || '.vector') IS NOT NULL,
       set_config('jit', 'off', false),
       set_config('synchronous_commit',
           CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
           ELSE current_setting('synchronous_commit') END, false)
"""


def connect(dsn: str) -> Connection:
    """Connect to a server, without a transaction.

    Raises:
        GalleryError: the DSN is none, or the server cannot be reached. No message has a password.
    """
    parts = _parse(dsn)
    options = _DEFAULTS | parts | {"client_encoding": "utf8"}
    try:
        connection: Connection = psycopg.connect(autocommit=True, prepare_threshold=None, **options)
    except psycopg.Error as error:
        raise GalleryError(
            f"{describe(dsn)} cannot be reached: {_explain(error, dsn)}. Is the server running, "
            "and are the host, database, user and password those of the DSN?"
        ) from None
    return connection


def describe(dsn: str) -> str:
    """Name a database for a message, without user and password."""
    parts = _parse(dsn)
    host = parts.get("host") or parts.get("hostaddr") or "the local server"
    port = f":{parts['port']}" if "port" in parts else ""
    return f"PostgreSQL database {parts.get('dbname', '')!r} at {host}{port}"


@contextmanager
def telling(dsn: str) -> Iterator[None]:
    """Turn what psycopg raises into a GalleryError.

    Whose the error was is left behind (`from None`): it may quote the DSN, or a person's name.
    """
    try:
        yield
    except (errors.UndefinedTable, errors.InvalidSchemaName):
        raise GalleryError(
            f"there is no gallery in the {describe(dsn)}: make one with reidkit gallery create"
        ) from None
    except psycopg.OperationalError as error:
        raise GalleryError(
            f"{describe(dsn)} broke off: {_explain(error, dsn)}. Nothing of what was begun was "
            "kept: try again"
        ) from None
    except psycopg.Error as error:
        raise GalleryError(f"{describe(dsn)} refused: {_explain(error, dsn)}") from None


class Connections:
    """At most so many connections to one database, lent to one thread each at a time."""

    def __init__(self, dsn: str, *, most: int = CONNECTIONS) -> None:
        self.dsn = dsn
        self._slots = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Cursor]:
        """Run a transaction: committed at the end of the block, or undone where it raises.

        `begin` are the statements that start it; the cursor stands at the last one's result.
        Where an idle connection turns out to be broken they are run on another.

        Raises:
            GalleryError: the server cannot be reached, broke off or refused.
        """
        with self._slot():
            connection, cursor = self._begin(begin)
            try:
                with telling(self.dsn):
                    yield cursor
                self._commit(connection)
            finally:
                self._give_back(connection)

    @contextmanager
    def alone(self) -> Iterator[Connection]:
        """Lend a connection of its own without a transaction, closed at the end.

        Raises:
            GalleryError: the server cannot be reached, broke off or refused.
        """
        connection = connect(self.dsn)
        try:
            with telling(self.dsn):
                yield connection
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections; one that is lent is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(timeout=_PATIENCE):
            raise GalleryError(
                f"all connections to the {describe(self.dsn)} have been busy for a minute: "
                "try again later"
            )
        try:
            yield
        finally:
            self._slots.release()

    def _begin(self, begin: str) -> tuple[Connection, Cursor]:
        while True:
            idle = self._take()
            connection = self._open() if idle is None else idle
            try:
                cursor = connection.cursor()
                cursor.execute(begin)
                while cursor.nextset():
                    pass
            except psycopg.Error:
                self._give_back(connection)
                if idle is not None and connection.closed:
                    continue  # the server was restarted: nothing has been asked of it yet
                with telling(self.dsn):
                    raise
            return connection, cursor

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except psycopg.OperationalError as error:
            raise GalleryError(
                f"{describe(self.dsn)} broke off while it kept a change: "
                f"{_explain(error, self.dsn)}. Look whether it is there before you try again"
            ) from None
        except psycopg.Error:
            with telling(self.dsn):
                raise

    def _take(self) -> Connection | None:
        with self._lock:
            if self._closed:
                raise GalleryError("the gallery is closed: open it again")
            return self._idle.pop() if self._idle else None

    def _open(self) -> Connection:
        connection = connect(self.dsn)
        try:
            with telling(self.dsn):
                row = connection.execute(_SETTINGS).fetchone()
                if row is None or not row[0]:
                    raise errors.UndefinedTable  # without the extension there is no gallery
                pgvector.psycopg.register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: Connection) -> None:
        with suppress(psycopg.Error):
            connection.rollback()
        status = connection.info.transaction_status
        with self._lock:
            if not self._closed and status is psycopg.pq.TransactionStatus.IDLE:
                self._idle.append(connection)
                return
        connection.close()


def _parse(dsn: str) -> dict[str, Any]:
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:  # its text may quote the password
        parts = {"port": "unreadable"}
    # A password that holds @, / or : unencoded spills over into these.
    spilled = any("@" in str(parts.get(name, "")) for name in ("host", "dbname"))
    if spilled or not re.fullmatch(r"[0-9,]*", str(parts.get("port", ""))):
        raise GalleryError(
            "the gallery's address is no PostgreSQL DSN such as postgresql://user@host/database: "
            "special characters in its password have to be percent-encoded (@ is %40)"
        ) from None
    return parts


def _explain(error: psycopg.Error, dsn: str) -> str:
    text = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    password = _parse(dsn).get("password")
    return text.replace(str(password), "***") if password else text
