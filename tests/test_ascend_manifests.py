"""The manifest of prepared pictures: it tells the truth, or says that it cannot."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit import disk
from reidkit.ascend.bins import BinSpec, find_pictures, write_bins
from reidkit.ascend.manifests import (
    BinKind,
    Manifest,
    PreparedFile,
    check_files,
    is_manifest,
    make_way,
    read_manifests,
    verify_bytes,
    write_manifest,
)
from reidkit.errors import FormatError, IntegrityError, MismatchError
from tests.pictures import SMALL, write_picture

KIND = BinKind("c" * 64, "uint8", (2, 1, 3))
OTHER_KIND = dataclasses.replace(KIND, contract_sha256="d" * 64)


def prepared(data: bytes, source: str = "x.jpg") -> PreparedFile:
    return PreparedFile(len(data), hashlib.sha256(data).hexdigest(), source)


def make(folder: Path, files: dict[str, bytes], kind: BinKind = KIND) -> Manifest:
    """Write files and their manifest."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(kind, {name: prepared(data) for name, data in files.items()}, 1, 2)
    write_manifest(folder, manifest)
    return manifest


def manifests(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_manifest(path.name)]


names = st.text("ab-é \udc80", min_size=1, max_size=4).map(lambda stem: stem + ".bin")
entries = st.builds(
    PreparedFile, st.integers(0, 9**9), st.text("0123456789abcdef", min_size=64, max_size=64), names
)
whole = st.builds(
    Manifest,
    st.builds(
        BinKind,
        st.text("0123456789abcdef", min_size=64, max_size=64),
        st.sampled_from(["float32", "uint8"]),
        st.tuples(st.integers(1, 999), st.integers(1, 999), st.integers(1, 999)),
    ),
    st.dictionaries(names, entries, max_size=4),
    st.integers(0, 99),
    st.integers(0, 99),
)


@settings(max_examples=50, deadline=None)
@given(whole)
def test_it_comes_back_as_it_was_written(manifest: Manifest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_manifest(folder, manifest)
        assert read_manifests(folder) == manifest
        # Its name survives `mv FOLDER/*` and no step takes it for a picture.
        assert is_manifest(path.name)
        assert not path.name.startswith(".")
        assert not path.name.endswith((".bin", ".npy"))


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    (tmp_path / "manifest-of-mine.json").write_text("{}")
    (tmp_path / "x.bin").touch()
    assert read_manifests(tmp_path) is None


def test_the_guides_move_of_one_folder_into_another_keeps_both(tmp_path: Path) -> None:
    spec = BinSpec(SMALL)
    for folder, count in (("query", 2), ("gallery", 3)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            write_picture(tmp_path / folder / f"{folder}{number}.jpg", number)
        write_bins(find_pictures([tmp_path / folder]), tmp_path / f"prep_{folder}", spec=spec)
    for path in sorted((tmp_path / "prep_gallery").glob("*")):
        shutil.move(path, tmp_path / "prep_query")
    assert len(manifests(tmp_path / "prep_query")) == 2
    manifest = read_manifests(tmp_path / "prep_query")
    assert manifest is not None
    assert manifest.kind == spec.kind
    assert len(manifest.files) == 5
    assert check_files(tmp_path / "prep_query", manifest) == ()
    for name in manifest.files:
        verify_bytes(manifest, name, (tmp_path / "prep_query" / name).read_bytes())


def test_a_file_lost_in_the_move_is_noticed(tmp_path: Path) -> None:
    """Two folders with a file of one name: the move overwrites one of them silently."""
    make(tmp_path / "one", {"a.bin": b"123456", "b.bin": b"234567"})
    make(tmp_path / "two", {"b.bin": b"345678"})
    for path in list((tmp_path / "two").iterdir()):
        shutil.move(path, tmp_path / "one" / path.name)
    with pytest.raises(IntegrityError, match=r"disagree about b\.bin"):
        read_manifests(tmp_path / "one")


def test_the_same_file_twice_is_no_disagreement(tmp_path: Path) -> None:
    make(tmp_path, {"a.bin": b"123456", "b.bin": b"234567"})
    make(tmp_path, {"b.bin": b"234567"})
    manifest = read_manifests(tmp_path)
    assert manifest is not None
    assert manifest.files.keys() == {"a.bin", "b.bin"}
    assert (manifest.junk, manifest.skipped) == (2, 4)


@pytest.mark.parametrize(
    "other",
    [
        OTHER_KIND,
        dataclasses.replace(KIND, dtype="float32"),
        dataclasses.replace(KIND, shape=(1, 2, 3)),
    ],
)
def test_two_kinds_in_one_folder_are_refused(tmp_path: Path, other: BinKind) -> None:
    make(tmp_path, {"a.bin": b"123456"})
    make(tmp_path, {"b.bin": b"234567"}, other)
    with pytest.raises(MismatchError, match="two kinds"):
        read_manifests(tmp_path)


# Damage.


@functools.cache
def written() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        manifest = make(Path(folder), {"a.bin": b"123456", "b.bin": b"234567"})
        return write_manifest(folder, manifest).read_bytes()


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, len(written()) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_means_nothing(place: int, byte: int) -> None:
    data = bytearray(written())
    data[place] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest-000000000000.json"
        path.write_bytes(written())
        expected = read_manifests(folder)
        path.write_bytes(data)
        try:
            found = read_manifests(folder)
        except (IntegrityError, FormatError):
            return
        assert found == expected


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": 1', b"\xff\xfe", b'"x"'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest-0123456789ab.json").write_bytes(data)
    with pytest.raises(IntegrityError, match="is damaged"):
        read_manifests(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {"a.bin": b"123456"})
    (path,) = manifests(tmp_path)
    fields = json.loads(path.read_text())
    del fields["manifest_sha256"]
    fields["format"] = 2
    path.write_text(json.dumps(fields | {"manifest_sha256": disk.sha256_json(fields)}))
    with pytest.raises(FormatError, match=r"format 2, this reidkit reads format 1"):
        read_manifests(tmp_path)


# The files against it.


def test_missing_and_wrong_files_are_named_and_strange_ones_returned(tmp_path: Path) -> None:
    manifest = make(tmp_path, {f"{name}.bin": b"123456" for name in "abcd"})
    assert check_files(tmp_path, manifest) == ()
    (tmp_path / "z.bin").touch()
    (tmp_path / "y.bin").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "folder").mkdir()
    assert check_files(tmp_path, manifest) == ("y.bin", "z.bin")
    (tmp_path / "b.bin").write_bytes(b"123")
    (tmp_path / "c.bin").unlink()
    (tmp_path / "d.bin").unlink()
    with pytest.raises(IntegrityError) as caught:
        check_files(tmp_path, manifest)
    assert "2 files are missing: c.bin, d.bin" in str(caught.value)
    assert "1 files have a wrong size: b.bin (3 bytes instead of 6)" in str(caught.value)


def test_no_more_than_ten_names_are_listed(tmp_path: Path) -> None:
    manifest = make(tmp_path, {f"{number:02}.bin": b"1" for number in range(13)})
    for path in tmp_path.glob("*.bin"):
        path.unlink()
    with pytest.raises(IntegrityError, match=r"13 files are missing: .*09\.bin and 3 more"):
        check_files(tmp_path, manifest)


def test_changed_bytes_are_noticed(tmp_path: Path) -> None:
    manifest = make(tmp_path, {"a.bin": b"123456"})
    verify_bytes(manifest, "a.bin", b"123456")
    verify_bytes(manifest, "a.bin", memoryview(b"123456"))
    verify_bytes(manifest, "not listed.bin", b"anything")
    with pytest.raises(IntegrityError, match=r"a\.bin was changed.*prepare x\.jpg again"):
        verify_bytes(manifest, "a.bin", b"123457")


# Making way for new files.


@settings(max_examples=60, deadline=None)
@given(
    older=st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), max_size=3),
    replaced=st.sets(st.sampled_from("abcdefg")),
)
def test_replaced_files_are_listed_nowhere(older: list[set[str]], replaced: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for listed in older:
            make(Path(folder), {f"{name}.bin": name.encode() for name in listed})
        make_way(folder, {f"{name}.bin" for name in replaced}, KIND)
        manifest = read_manifests(folder)
        left = {f"{name}.bin" for name in set().union(*older) - replaced}
        assert (set(manifest.files) if manifest else set()) == left
        assert bool(left) == bool(manifests(Path(folder)))
        assert {path.name for path in Path(folder).glob("*.bin")} == {
            f"{name}.bin" for name in set().union(*older)
        }


def test_files_of_another_kind_may_be_replaced_but_not_joined(tmp_path: Path) -> None:
    make(tmp_path, {"a.bin": b"1", "b.bin": b"2"})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MismatchError, match="two kinds"):
        make_way(tmp_path, {"a.bin"}, OTHER_KIND)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    make_way(tmp_path, {"a.bin", "b.bin", "c.bin"}, OTHER_KIND)
    assert manifests(tmp_path) == []
