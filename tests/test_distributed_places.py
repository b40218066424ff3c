"""Addresses: paths, URIs of pyarrow and fsspec, and a real object store."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from reidkit.distributed import Place, find_place
from reidkit.errors import ArgumentError, StoreError
from tests.object_store import bucket as bucket
from tests.object_store import object_store as object_store
from tests.pictures import skip_without

skip_without("pyarrow")


def test_a_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(find_place("here") / "file") == str(tmp_path / "here" / "file")
    assert (find_place("here") / "file").local == tmp_path / "here" / "file"


@pytest.mark.parametrize("kind", ["path", "file", "memory"])
def test_files_are_written_read_listed_and_deleted(kind: str, tmp_path: Path) -> None:
    address = {"path": str(tmp_path), "file": tmp_path.as_uri(), "memory": "memory:///a"}[kind]
    place = find_place(address) / kind
    assert place.list_files() == []
    for name in ("b/2.txt", "a/1.txt", ".hidden/3.txt", "a-b/4.txt", "a/.5.partial"):
        (place / name).write_bytes(name.encode())
    (place / "a/1.txt").write_bytes(b"again")
    names = [file.below.removeprefix(f"{kind}/") for file in place.list_files()]
    assert names == ["a/1.txt", "a-b/4.txt", "b/2.txt"]
    assert (place / "a/1.txt").read_bytes() == b"again"
    with (place / "b/2.txt").open() as file:
        assert file.read() == b"b/2.txt"
    assert place.is_folder()
    assert not (place / "a/1.txt").is_folder()
    (place / "a/1.txt").delete()
    (place / "a/1.txt").delete()
    assert not (place / "a/1.txt").exists()
    with pytest.raises(FileNotFoundError):
        (place / "a/1.txt").read_bytes()


def test_an_object_store_and_its_secrets(bucket: str) -> None:
    place = find_place(bucket.format("/crops"))
    (place / "x/1.bin").write_bytes(b"one")
    assert [str(file) for file in place.list_files()] == [f"{place}/x/1.bin"]
    assert place.is_folder()
    there: Place = pickle.loads(pickle.dumps(place / "x/1.bin"))
    assert there.read_bytes() == b"one"
    assert there.local is None
    assert "secret" not in str(there)
    with pytest.raises(FileNotFoundError):
        (place / "x/2.bin").read_bytes()
    lost = find_place(bucket.replace("bucket-", "no-such-bucket-").format("/a"))
    with pytest.raises(StoreError, match=r"s3://no-such-bucket-\d+/a cannot be written") as caught:
        lost.write_bytes(b"")
    assert "secret" not in str(caught.value)


def test_names_in_a_table_are_found_beside_it(tmp_path: Path) -> None:
    options = "?scheme=http&endpoint_override=host:9"
    table = find_place(f"s3://bucket/lists/a.parquet{options}")
    assert table.beside("b/c#1.jpg") == Place(f"s3://bucket/lists{options}", "b/c#1.jpg")
    assert table.beside("s3://bucket/d.jpg").address == f"s3://bucket/d.jpg{options}"
    assert table.beside("s3://other/d.jpg").address == "s3://other/d.jpg"
    assert (find_place("s3://bucket/lists") / "x/a.parquet").beside("c.jpg").below == "x/c.jpg"
    assert find_place(tmp_path / "a.parquet").beside("c.jpg").local == tmp_path / "c.jpg"
    assert find_place(tmp_path / "a.parquet").beside("/c.jpg").local == Path("/c.jpg")


def test_a_blank_in_a_uri_of_this_machine(tmp_path: Path) -> None:
    place = find_place(f"{tmp_path.as_uri()}/a%20b") / "c.txt"
    place.write_bytes(b"x")
    assert place.local == tmp_path / "a b" / "c.txt"
    assert place.exists()


def test_no_secret_is_shown() -> None:
    for address in ("s3://me:sec/ret@bucket/x?key=secret", "s3://me:sec/ret@buck et/x"):
        place = find_place(address)
        assert "ret@" not in f"{place} {place!r}"
        assert "secret" not in f"{place} {place!r}"
        with pytest.raises((ArgumentError, StoreError)) as caught:
            place.read_bytes()
        assert "ret@" not in str(caught.value)
    assert str(find_place("s3://bucket/a@b/c")) == "s3://bucket/a@b/c"


def test_a_store_that_fails_in_the_middle_of_a_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = find_place(tmp_path) / "file"
    place.write_bytes(bytes(100))
    with place.open() as file:
        assert file.read(10) == bytes(10)
        monkeypatch.setattr(file, "_file", Broken())
        with pytest.raises(StoreError, match="file cannot be read: connection reset"):
            file.read(10)


class Broken:
    def read(self, count: int) -> bytes:
        raise OSError("connection reset")


def test_what_is_no_address_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="nothing://x is not an address that can be opened"):
        find_place("nothing://x").exists()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        (find_place(tmp_path / "file") / "below").write_bytes(b"")
