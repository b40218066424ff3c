"""API keys: a file that holds only their hashes, and a ring that follows the file.

    {"format": 1, "keys": [{"id", "name", "roles", "sha256", "created"}, ...]}

A key is `rk_<id>_<secret>`; the secret is 256 random bits, so one sha256 keeps it as well as a slow
password hash would. Nobody can read a lost key back from the file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reidkit import disk
from reidkit.errors import ArgumentError, FormatError

FORMAT = 1
"""The number of the keys file's format."""

ROLES = ("search", "enrol", "erase", "admin")
"""What a key may be for; `admin` may do everything."""

_SECRET = re.compile(r"rk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}")
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
_LOCK_SECONDS = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret.

    Fields:
        id: what names the key, in the key itself too; no secret.
        name: whom or what it is for; the audit knows the key by it.
        roles: some of `ROLES`.
        sha256: of the whole key, as text.
        created: seconds since 1970 (UTC).
    """

    id: str
    name: str
    roles: tuple[str, ...]
    sha256: str
    created: float

    def may(self, role: str) -> bool:
        """Tell whether the key is good for a role."""
        return role in self.roles or "admin" in self.roles


def add_key(path: str | Path, name: str, roles: Collection[str]) -> str:
    """Make a key and add its hash to a keys file, which is made where there is none.

    Returns:
        The key, `rk_<id>_<secret>`: this is the only time that it can be seen.

    Raises:
        ArgumentError: a name that is taken or cannot be one, no roles or unknown ones.
        FormatError: the file is damaged.
    """
    path = Path(path)
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"the key's name is {name!r}, expected 1 to 63 letters, digits, spaces or . _ @ -"
        )
    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise ArgumentError(f"roles are {sorted(roles)}, expected some of {', '.join(ROLES)}")
    with _locked(path):
        keys = read_keys(path) if path.exists() else ()
        if any(key.name == name for key in keys):
            raise ArgumentError(
                f"there is a key named {name!r} already: remove it, or choose another"
            )
        identity = secrets.token_hex(6)
        secret = f"rk_{identity}_{secrets.token_urlsafe(32)}"
        ordered = tuple(role for role in ROLES if role in roles)
        key = Key(identity, name, ordered, _hash(secret), round(time.time(), 3))
        _write_keys(path, (*keys, key))
    return secret


def list_keys(path: str | Path) -> tuple[Key, ...]:
    """List a file's keys, the oldest first; none where there is no file.

    Raises:
        FormatError: the file is damaged.
    """
    return read_keys(path) if Path(path).exists() else ()


def remove_key(path: str | Path, key: str) -> Key:
    """Remove a key by its id or name; a running service refuses it within a second or two.

    Raises:
        ArgumentError: there is no such key.
        FormatError: the file is damaged.
    """
    path = Path(path)
    with _locked(path):
        keys = list_keys(path)
        gone = [known for known in keys if key in (known.id, known.name)]
        if not gone:
            raise ArgumentError(f"{path} holds no key {key!r}: see `reidkit keys list`")
        _write_keys(path, tuple(known for known in keys if known != gone[0]))
    return gone[0]


def read_keys(path: str | Path) -> tuple[Key, ...]:
    """Read a keys file.

    Raises:
        ArgumentError: there is none, or it cannot be read.
        FormatError: it is damaged, of another format, or anybody may write it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            anybody = os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o002
            data = file.read()
    except OSError as error:
        raise ArgumentError(
            f"{path} cannot be read ({error.strerror}): make a key with `reidkit keys add`"
        ) from error
    if anybody:
        raise FormatError(f"anybody on this machine may write {path}: chmod 600 it")
    try:
        value = json.loads(data)
        if value["format"] != FORMAT:
            raise FormatError(f"{path} has format {value['format']!r}, this version reads {FORMAT}")
        keys = tuple(_parse_key(entry) for entry in value["keys"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FormatError(f"{path} is no keys file, or damaged ({error!r})") from error
    for field in ("id", "name"):
        if len({getattr(key, field) for key in keys}) < len(keys):
            raise FormatError(f"{path} holds two keys of one {field}")
    return keys


def find_key(secret: str, keys: Collection[Key]) -> Key | None:
    """Find the key that a text is; `None` where it is none of them.

    An unknown id is compared with a hash that nothing has, so that it takes as long.
    """
    match = _SECRET.fullmatch(secret)
    identity = match[1] if match else ""
    known = next((key for key in keys if key.id == identity), None)
    right = hmac.compare_digest(_hash(secret), known.sha256 if known else _NOBODY)
    return known if known and right else None


class KeyRing:
    """The keys of a file, read again when the file changes. For one event loop.

    A file that is damaged, gone or cannot be read allows nobody, until it can be read again; `lost`
    tells that it is so.
    """

    def __init__(
        self, path: str | Path, *, every: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Look whether the file changed at most once in `every` seconds."""
        self.path = Path(path)
        self._every, self._clock = every, clock
        self._looked = -float("inf")
        self._stamp: tuple[int, ...] | None = None
        self._keys: tuple[Key, ...] = ()
        self._error = ""

    @property
    def lost(self) -> bool:
        """Tell whether the file could not be read when it was last looked at."""
        return bool(self._error)

    def find(self, secret: str) -> Key | None:
        """Find the key that a text is; `None` where it is none."""
        now = self._clock()
        if now - self._looked >= self._every:
            self._looked = now
            self._look()
        return find_key(secret, self._keys)

    def _look(self) -> None:
        stamp: tuple[int, ...] = ()
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
        except OSError:
            pass  # read_keys says why
        if stamp == self._stamp:
            return
        try:
            self._keys, self._stamp, self._error = read_keys(self.path), stamp, ""
        except (ArgumentError, FormatError) as error:
            # Nothing is remembered of the file: what failed may have been the reading alone.
            self._keys, self._stamp = (), None
            if str(error) != self._error:
                logger.error("no key is accepted until this is repaired: %s", error)
            self._error = str(error)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _parse_key(entry: dict[str, Any]) -> Key:
    key = Key(
        str(entry["id"]),
        str(entry["name"]),
        tuple(entry["roles"]),
        str(entry["sha256"]),
        float(entry["created"]),
    )
    if not re.fullmatch(r"[0-9a-f]{64}", key.sha256) or not _NAME.fullmatch(key.name):
        raise ValueError(f"key {key.id!r} has no usable hash or name")
    if not set(key.roles) <= set(ROLES):
        raise ValueError(f"key {key.id!r} has unknown roles {key.roles}")
    return key


def _write_keys(path: Path, keys: tuple[Key, ...]) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    entries = [asdict(key) for key in keys]
    disk.write_json(path, {"format": FORMAT, "keys": entries}, private=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time change the file; the others wait their turn."""
    lock = path.with_name(f".{path.name}.lock")
    end = time.monotonic() + _LOCK_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(disk.hold(lock, "changing the keys"))
                break
            except ArgumentError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield
