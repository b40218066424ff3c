"""The documents cannot lie: their commands run, their generated parts are up to date."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reidkit import networks
from reidkit.ascend.guide import _streaming
from reidkit.cli import main
from reidkit.networks import Network
from tests.checkpoint_files import write_legacy
from tests.contract.test_runtimes import write_onnx
from tests.pictures import write_picture

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that README takes for granted."""
    monkeypatch.chdir(tmp_path)
    write_legacy(tmp_path / "checkpoint.pth", networks.initial_tensors(Network("resnet18")))
    ids = np.arange(4)
    vectors = np.eye(4, dtype=np.float32)
    np.savez("vectors.npz", vectors=vectors, person_ids=ids, camera_ids=ids)
    path, _ = write_onnx(tmp_path, None)
    path.rename("elsewhere.onnx")
    write_picture(Path("probe.png"), seed=1)
    return tmp_path


@pytest.mark.slow
def test_every_example_in_the_readme_runs(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_streaming, "MEASURED_SECONDS", 0.05)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) >= 8
    for command in commands:
        # The test's network from elsewhere is smaller than the one README speaks of.
        smaller = command.replace("--size 128x64", "--size 32x16")
        words = shlex.split(smaller.replace("--seconds 0.2", "--seconds 0.05"))
        assert words[0] == "reidkit", command
        with pytest.raises(SystemExit) as exit_:
            main(words[1:])
        assert exit_.value.code == 0, (command, capsys.readouterr().err)
    shutil.rmtree("package")
    for code in blocks("python"):
        exec(code, {})
    assert "mAP" in capsys.readouterr().out


def test_the_command_line_reference_is_up_to_date() -> None:
    # In a process of its own: a command keeps the help option of the context that it first ran in.
    code = "import generate, sys; sys.stdout.write(generate.write_reference())"
    assert run_generator(code) == (ROOT / "docs" / "cli.md").read_text(), "run make docs"


def test_the_tables_in_the_documents_are_those_of_the_records() -> None:
    code = (
        "import generate, json, sys; from tables import TABLES; texts = {name: generate.fill(name, "
        "(generate.ROOT / name).read_text()) for name in TABLES}; json.dump(texts, sys.stdout)"
    )
    texts = json.loads(run_generator(code))
    assert "README.md" in texts
    for name, text in texts.items():
        assert text == (ROOT / name).read_text(), f"{name}: run make docs"


def run_generator(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "docs")}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_every_link_to_a_file_leads_somewhere() -> None:
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document}: {link}"


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = [README, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / ".ci" / "run").read_text()]
    named = {name for text in texts for name in re.findall(r"\bmake ([a-z]+)\b", text)}
    assert {"demo", "test", "check", "bench", "docs"} <= named | targets
    assert named <= targets


def test_every_module_has_its_line_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / "src" / "reidkit").iterdir():
        if path.name.startswith("_") or path.name == "py.typed":
            continue
        assert re.search(rf"^  {re.escape(path.name)}/?\s", text, re.MULTILINE), path.name
