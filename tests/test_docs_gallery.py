"""docs/gallery.md and docs/responsible-use.md: every command and example runs, in order."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reidkit.cli import main
from reidkit.datasets.drawn import draw_dataset
from tests.certified import write_fake
from tests.pictures import write_picture

DOCS = Path(__file__).parent.parent / "docs"
ADDRESS = "127.0.0.1:8000"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps(document: str) -> list[tuple[str, str]]:
    """Give the commands, line by line, and the Python examples in the order of the document."""
    found = []
    for language, text in BLOCK.findall((DOCS / document).read_text()):
        found += (
            [(language, line) for line in text.splitlines()]
            if language == "sh"
            else [(language, text)]
        )
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def expand(word: str) -> list[str]:
    """Give the files that a pattern stands for, as a shell does."""
    return sorted(map(str, Path().glob(word))) if "*" in word else [word]


class Reader:
    """Follows a document; what it serves, it serves on a port that is free here."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.port = free_port()
        self.served: subprocess.Popen[str] | None = None

    def do(self, language: str, text: str) -> None:
        text = text.replace(ADDRESS, f"127.0.0.1:{self.port}")
        if language == "python":
            exec(text, {})
        elif text.startswith("reidkit serve "):
            self.serve(text)
        elif variable := re.fullmatch(r"export (\w+)=\$\((.*)\)", text):
            os.environ[variable[1]] = self.call(variable[2]).strip()
        else:
            self.call(text)

    def call(self, line: str) -> str:
        first, *words = shlex.split(line)
        assert first == "reidkit", line
        expanded = [name for word in words for name in expand(word)]
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main(expanded)
        out, err = self.capsys.readouterr()
        assert exit_.value.code == 0, (line, out, err)
        return out

    def serve(self, line: str) -> None:
        words = [*shlex.split(line)[1:], "--port", str(self.port)]
        self.served = subprocess.Popen(
            [sys.executable, "-m", "reidkit", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.served.stdout is not None
        assert f"127.0.0.1:{self.port}" in self.served.stdout.readline()

    def stop(self) -> None:
        if self.served is not None:
            self.served.send_signal(signal.SIGINT)
            out, _ = self.served.communicate(timeout=60)
            assert self.served.returncode == 0
            assert out.endswith("stopped\n")
            self.served = None


@pytest.fixture
def reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Reader]:
    """Somebody with the packages and pictures that the documents take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REIDKIT_KEY", "")
    write_fake(tmp_path / "package")
    write_fake(tmp_path / "new-package", seed=1, size=32)
    draw_dataset(tmp_path / "people", people=2, cameras=2, seed=5, workers=1)
    for number, name in enumerate(("ann/1", "ann/2", "bob/1", "bob/2")):
        path = tmp_path / "crops" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, seed=number)
    reader = Reader(capsys)
    yield reader
    if reader.served is not None:
        reader.served.kill()
        reader.served.communicate()


def test_the_gallery_is_as_its_document_says(reader: Reader) -> None:
    for language, text in steps("gallery.md"):
        if text.startswith("reidkit gallery reembed"):
            continue  # the documents' other commands go on with the package
        if text.startswith("reidkit keys remove"):
            continue  # the example below still needs it; tests/test_cli_serve.py removes keys
        reader.do(language, text)
    assert reader.served is not None
    reader.stop()
    reader.do("sh", "reidkit keys remove desk --gallery gallery")
    reader.do("sh", "reidkit gallery reembed gallery --package new-package --drop-missing")


def test_responsible_use_can_be_done(reader: Reader) -> None:
    reader.do("sh", "reidkit gallery create gallery --package package")
    reader.do("sh", "reidkit gallery add gallery crops --person-from folder")
    for language, text in steps("responsible-use.md"):
        reader.do(language, text)


def test_the_documents_are_linked() -> None:
    assert "responsible-use.md" in (DOCS / "gallery.md").read_text()
    assert "gallery.md#forgetting" in (DOCS / "responsible-use.md").read_text()
    assert "\n## Forgetting\n" in (DOCS / "gallery.md").read_text()
