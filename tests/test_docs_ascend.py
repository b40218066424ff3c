"""docs/ascend.md: every command runs, in order, and gives what `reidkit score` gives."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reidkit import networks
from reidkit.ascend.guide import _streaming
from reidkit.cli import main
from reidkit.networks import Network
from tests.ascend_files import write_guide_config
from tests.checkpoint_files import write_legacy

DOCS = Path(__file__).parent.parent / "docs"
CHECKPOINT = "market_resnet50_model_120_rank1_945.pth"
SMALLER = {
    "256, 128": "64, 32",
    "3,256,128": "3,64,32",
    "reidkit ascend guide": "reidkit ascend guide --size 64x32",
    "reidkit ascend preprocess": "reidkit ascend preprocess --package package",
}
"""Each picture goes through a ResNet-50 a dozen times: at the guide's size that takes a minute."""


def blocks(document: str, language: str) -> list[str]:
    text = (DOCS / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a line in the current folder: reidkit's commands here, all others in a shell."""
    words = shlex.split(line)
    if words[0] != "reidkit":
        return run_in_shell(line)
    with pytest.raises(SystemExit) as exit_:
        main(words[1:])
    printed = capsys.readouterr()
    assert exit_.value.code == 0, f"{line}\n{printed.out}{printed.err}"
    return printed.out


def run_in_shell(line: str) -> str:
    """Run a line with this Python's commands first on PATH."""
    here = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def smaller(text: str) -> str:
    """Let a command, a script or a configuration be for pictures of 64x32."""
    for usual, small in SMALLER.items():
        text = text.replace(usual, small)
    return text


@pytest.mark.parametrize("language", ["sh", "python"])
def test_both_languages_have_the_same_commands(language: str) -> None:
    assert blocks("ascend.md", language) == blocks("ascend.zh.md", language)


@pytest.mark.slow
def test_the_guide_runs_line_by_line_and_gives_the_scores_of_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_streaming, "MEASURED_SECONDS", 0.05)
    config = write_guide_config(tmp_path)
    config.write_text(smaller(config.read_text()))
    write_legacy(tmp_path / CHECKPOINT, networks.initial_tensors(Network("resnet50")))
    run(f"reidkit export {CHECKPOINT} package --size 64x32", capsys)
    lines = [line for block in blocks("ascend.md", "sh") for line in block.splitlines()]
    assert len(lines) >= 10
    printed = {line: run(smaller(line), capsys) for line in lines}
    (last,) = (line for line in lines if line.startswith("reidkit ascend postprocess"))
    scores = json.loads(run("reidkit score package --data market1501 --json", capsys))
    assert f"mAP: {scores['mAP']:.1%}" in printed[last]
    for rank in (1, 5, 10):
        assert f"CMC curve, Rank-{rank:<3}:{scores['cmc'][rank - 1]:.1%}" in printed[last]
    exact = json.loads(run(f"{last} --json", capsys))
    assert exact["mAP"] == pytest.approx(scores["mAP"], abs=1e-6)
    assert exact["cmc"] == pytest.approx(scores["cmc"], abs=1e-6)
    other = json.loads(run(f"{last.replace('bs1', 'bs4')} --json", capsys))
    assert other["mAP"] == pytest.approx(scores["mAP"], abs=1e-6)
    whole = json.loads((tmp_path / "guide" / "guide.json").read_bytes())
    assert whole["accuracy"]["device"]["mAP"] == pytest.approx(scores["mAP"], abs=1e-6)
    for code in blocks("ascend.md", "python"):
        (tmp_path / "example.py").write_text(smaller(code))
        assert "(1, 2048)" in run("python example.py", capsys)
