"""Keys: what is on disk, who is let in, and what a damaged file allows (nobody)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from pathlib import Path

import pytest

from reidkit.errors import ArgumentError, FormatError
from reidkit.serving import Key, add_key, list_keys, read_keys, remove_key
from reidkit.serving._keys import KeyRing, find_key


def test_only_the_hash_is_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = add_key(file, "front desk", ["search", "enrol"])
    (key,) = read_keys(file)
    assert re.fullmatch(r"rk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
    assert (key.name, key.roles) == ("front desk", ("search", "enrol"))
    assert key.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret[16:] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if "partial" in entry.name] == []


def test_a_key_is_found_by_its_whole_text_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secrets = [add_key(file, f"key {i}", ["search"]) for i in range(3)]
    keys = read_keys(file)
    assert [find_key(secret, keys) for secret in secrets] == list(keys)
    first, second = secrets[0], secrets[1]
    mixed = first[:16] + second[16:]
    for wrong in ("", "rk_", first[:-1], first + "A", first.upper(), mixed, "rk_é_\udc80", " "):
        assert find_key(wrong, keys) is None, wrong


def test_roles() -> None:
    key = Key("1", "n", ("admin",), "0" * 64, 0.0)
    assert all(key.may(role) for role in ("search", "enrol", "erase", "admin"))
    key = Key("1", "n", ("enrol",), "0" * 64, 0.0)
    assert [key.may(role) for role in ("search", "enrol", "erase", "admin")] == [0, 1, 0, 0]


@pytest.mark.parametrize("name", ["", " x", "a" * 64, "a\nb", "a:b", "ключ"])
def test_names_that_no_key_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match="name"):
        add_key(tmp_path / "keys.json", name, ["search"])


def test_roles_and_names_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with pytest.raises(ArgumentError, match="expected some of search"):
        add_key(file, "a", ["root"])
    with pytest.raises(ArgumentError, match="roles are"):
        add_key(file, "a", [])
    add_key(file, "a", ["search"])
    with pytest.raises(ArgumentError, match="already"):
        add_key(file, "a", ["search"])


def test_removing(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    assert list_keys(file) == ()
    for name in "abc":
        add_key(file, name, ["search"])
    by_id = list_keys(file)[0]
    assert remove_key(file, by_id.id) == by_id
    assert remove_key(file, "c").name == "c"
    assert [key.name for key in list_keys(file)] == ["b"]
    with pytest.raises(ArgumentError, match="no key 'c'"):
        remove_key(file, "c")


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    threads = [
        threading.Thread(target=add_key, args=(file, f"key {i}", ["search"])) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(file)} == {f"key {i}" for i in range(8)}


def damaged(text: str) -> list[str]:
    """Give a keys file in many damaged forms."""
    value = json.loads(text)
    entry = value["keys"][0]

    def with_entry(**changes: object) -> str:
        return json.dumps({"format": 1, "keys": [entry | changes]})

    return [
        "",
        "[]",
        text[: len(text) // 2],
        "[" * 100_000,
        json.dumps(value | {"format": 2}),
        json.dumps({"format": 1, "keys": 5}),
        json.dumps({"format": 1, "keys": [5]}),
        json.dumps({"format": 1, "keys": [entry, entry]}),
        with_entry(sha256="0"),
        with_entry(roles=["root"]),
        with_entry(roles=5),
        with_entry(name="a\nb"),
        with_entry(created="long ago"),
    ]


def test_a_damaged_file_allows_nobody(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = add_key(file, "a", ["admin"])
    text = file.read_text()
    for number, bad in enumerate(damaged(text)):
        file.write_text(bad)
        with pytest.raises(FormatError):
            read_keys(file)
        assert KeyRing(file).find(secret) is None, number
    file.write_text(text)
    assert KeyRing(file).find(secret) is not None
    file.chmod(0o666)
    with pytest.raises(FormatError, match="chmod 600"):
        read_keys(file)
    file.unlink()
    with pytest.raises(ArgumentError, match="keys add"):
        read_keys(file)
    assert KeyRing(file).find(secret) is None


def test_a_passing_failure_locks_nobody_out_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.json"
    secret = add_key(file, "first", ["search"])
    now = [0.0]
    ring = KeyRing(file, clock=lambda: now[0])

    def fail(*_: object, **__: object) -> None:
        raise OSError(24, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        for now[0] in (0.0, 1.0, 2.0):
            assert ring.find(secret) is None
            assert ring.lost
    assert caplog.text.count("until this is repaired") == 1
    now[0] = 3.0
    assert ring.find(secret) is not None, "the file did not change, and yet it is read again"
    assert not ring.lost


def test_the_ring_follows_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.json"
    first = add_key(file, "first", ["search"])
    now = [0.0]
    ring = KeyRing(file, clock=lambda: now[0])
    assert ring.find(first) is not None
    second = add_key(file, "second", ["search"])
    assert ring.find(second) is None, "it looks once a second"
    now[0] = 1.0
    assert ring.find(second) is not None
    remove_key(file, "first")
    now[0] = 2.0
    assert ring.find(first) is None
    good = file.read_text()
    file.write_text(good[:40])
    now[0] = 3.0
    assert ring.find(second) is None
    assert "until this is repaired" in caplog.text
    assert second not in caplog.text
    file.write_text(good)
    os.utime(file, ns=(5, 5))
    now[0] = 4.0
    assert ring.find(second) is not None
