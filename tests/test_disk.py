from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from reidkit import disk
from reidkit.errors import ArgumentError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    disk.write_bytes(path, b"one")
    disk.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    disk.write_bytes(path, b"open to all")
    disk.write_bytes(path, b"secret", private=True)
    assert path.read_bytes() == b"secret"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    disk.write_bytes(path, b"one")
    with pytest.raises(TypeError):
        disk.write_bytes(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_and_refusal(tmp_path: Path) -> None:
    disk.write_json(tmp_path / "a", {"b": [1, None]})
    assert disk.read_json(tmp_path / "a") == {"b": [1, None]}
    (tmp_path / "list").write_text("[1]")
    with pytest.raises(ValueError, match="not a JSON object"):
        disk.read_json(tmp_path / "list")


def test_a_new_folder_appears_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with disk.new_folder(target, marker="m") as temporary:
        (temporary / "m").write_text("1")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert (target / "m").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="stop"),
        disk.new_folder(tmp_path / "folder", marker="m") as temporary,
    ):
        (temporary / "m").write_text("1")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with disk.new_folder(tmp_path / "folder", marker="m") as temporary:
        (temporary / "m").touch()
    assert (tmp_path / "folder" / "m").exists()


def test_only_a_folder_of_the_same_kind_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "m").write_text("old")
    with (
        pytest.raises(ArgumentError, match="--overwrite"),
        disk.new_folder(target, marker="m", overwrite=False),
    ):
        pass
    with pytest.raises(ArgumentError, match=r"another place$"), disk.new_folder(target, marker="m"):
        pass
    with disk.new_folder(target, marker="m", overwrite=True) as temporary:
        (temporary / "m").write_text("new")
    assert (target / "m").read_text() == "new"
    with (
        pytest.raises(ArgumentError, match="other things"),
        disk.new_folder(target, marker="another", overwrite=True),
    ):
        pass
    assert (target / "m").read_text() == "new"


def test_a_file_is_never_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("keep")
    with (
        pytest.raises(ArgumentError, match="not a folder"),
        disk.new_folder(tmp_path / "file", marker="m", overwrite=True),
    ):
        pass
    assert (tmp_path / "file").read_text() == "keep"


def test_hashes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert disk.sha256_file(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert disk.sha256_json({"a": 1, "b": 2}) == disk.sha256_json({"b": 2, "a": 1})
    assert disk.sha256_json({"a": 1}) != disk.sha256_json({"a": 1.5})


def test_a_folder_with_more_in_it_is_not_replaced(tmp_path: Path) -> None:
    """A marker alone, such as report.html, is no proof that everything beside it is ours."""
    target = tmp_path / "site"
    target.mkdir()
    (target / "m").write_text("mine")
    (target / "precious").write_text("keep")
    with (
        pytest.raises(ArgumentError, match=r"other things too \(precious\)"),
        disk.new_folder(target, marker="m", overwrite=True) as temporary,
    ):
        (temporary / "m").write_text("new")
    assert (target / "precious").read_text() == "keep"
    assert (target / "m").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("overwrite", [None, False, True])
def test_what_appears_meanwhile_is_not_deleted(tmp_path: Path, overwrite: bool | None) -> None:
    target = tmp_path / "folder"
    with (
        pytest.raises(ArgumentError, match="other things"),
        disk.new_folder(target, marker="m", overwrite=overwrite) as temporary,
    ):
        (temporary / "m").write_text("new")
        target.mkdir()
        (target / "precious").write_text("keep")
    assert (target / "precious").read_text() == "keep"


def test_the_old_folder_survives_a_failed_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    with disk.new_folder(target, marker="m") as temporary:
        (temporary / "m").write_text("old")
    replace = Path.replace

    def failing(self: Path, other: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError("disk full")
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", failing)
    with (
        pytest.raises(OSError, match="disk full"),
        disk.new_folder(target, marker="m", overwrite=True) as temporary,
    ):
        (temporary / "m").write_text("new")
    assert (target / "m").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(ArgumentError, match="folder of its own"),
        disk.new_folder(Path(), marker="m"),
    ):
        pass


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with disk.new_folder(tmp_path / "link", marker="m") as temporary:
        (temporary / "m").touch()
    assert (tmp_path / "real" / "m").exists()
    assert (tmp_path / "link").is_symlink()


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "below" / "lock"
    for _ in range(2):
        with (
            disk.hold(path, "at it"),
            pytest.raises(ArgumentError, match="another run is at it"),
            disk.hold(path, "at it"),
        ):
            pass
        assert not path.exists()
