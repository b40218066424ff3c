"""`reidkit serve` and `reidkit keys`: options reach the library, a key is seen once."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reidkit import serving
from reidkit.cli import keys as keys_command
from reidkit.cli import main
from reidkit.errors import GalleryError
from reidkit.serving import ROLES, ServeSettings, list_keys


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert exit_.value.code == code, (out, err)
    assert "Traceback" not in err
    return out, err


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Note how the library is called, in place of serving."""
    calls: list[dict[str, Any]] = []

    def serve(
        package: Path, *, place: str, settings: ServeSettings, announce: Callable[[str], None]
    ) -> None:
        calls.append({"package": package, "place": place, "settings": settings})
        announce("http://127.0.0.1:8123")

    monkeypatch.setattr(serving, "serve", serve, raising=False)
    return calls


def test_options_reach_the_library(
    served: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--host", "::1", "--port", 0, "--keys", "k.json", "--retain", "30d"]
    options += ["--memory", "2MiB", "--device", "cpu", "--batch", 4, "--queue", 9, "--wait-ms", 2]
    options += ["--least-height", 32, "--most-alike", 0.99]
    out, _ = run(capsys, "serve", "package", "--gallery", "place", *options)
    (call,) = served
    assert (call["package"], call["place"]) == (Path("package"), "place")
    settings = call["settings"]
    assert (settings.host, settings.port, settings.keys) == ("::1", 0, Path("k.json"))
    assert (settings.keep, settings.memory, settings.device) == (30 * 86400, 2**21, "cpu")
    assert (settings.batch.batch, settings.batch.queue, settings.batch.wait) == (4, 9, 0.002)
    assert (settings.quality.least_height, settings.quality.most_alike) == (32, 0.99)
    assert not settings.no_auth
    assert "http://127.0.0.1:8123" in out
    assert "needs a key" in out
    assert "30 days" in out
    assert "stopped" in out


def test_what_is_not_said_is_as_the_library_has_it(
    served: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run(capsys, "serve", "package", "--gallery", "place", "--no-auth")
    assert served[0]["settings"] == ServeSettings(no_auth=True)
    assert "NO KEYS" in out


def test_a_service_that_cannot_start_says_why_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(*_: object, **__: object) -> None:
        raise GalleryError("place is no gallery")

    monkeypatch.setattr(serving, "serve", serve, raising=False)
    _, err = run(capsys, "serve", "package", "--gallery", "place", code=1)
    assert err == "reidkit: place is no gallery\n"
    run(capsys, "serve", "package", "--gallery", "place", "--retain", "soon", code=2)


def test_a_key_is_shown_once_and_kept_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    which = ["--gallery", tmp_path]
    (tmp_path / keys_command.DATABASE).touch()
    out, err = run(capsys, "keys", "add", "desk", "--role", "search", "--role", "enrol", *which)
    key = out.strip()
    assert key.startswith("rk_")
    assert "not shown again" in err
    file = tmp_path / keys_command.FILE
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list_keys(file)[0].roles == ("search", "enrol")
    out, _ = run(capsys, "keys", "list", *which)
    assert "desk" in out
    assert "search, enrol" in out
    assert key not in out
    out, _ = run(capsys, "keys", "list", *which, "--json")
    (listed,) = json.loads(out)["keys"]
    assert listed["name"] == "desk"
    assert listed["created"].endswith("Z")
    run(capsys, "keys", "add", "desk", "--role", "search", *which, code=1)
    run(capsys, "keys", "remove", "desk", *which)
    assert list_keys(file) == ()
    run(capsys, "keys", "remove", "desk", *which, code=1)


def test_keys_of_a_file_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.json"
    out, _ = run(capsys, "keys", "add", "x", "--role", "admin", "--keys", file, "--json")
    assert json.loads(out)["key"].startswith("rk_")
    assert [key.name for key in list_keys(file)] == ["x"]


@pytest.mark.parametrize(
    "which", [[], ["--gallery", "postgresql://host/name"], ["--gallery", "nowhere"]]
)
def test_whose_keys_must_be_said(capsys: pytest.CaptureFixture[str], which: list[str]) -> None:
    run(capsys, "keys", "list", *which, code=2)


def test_the_roles_are_the_librarys() -> None:
    assert keys_command.ROLES == ROLES
