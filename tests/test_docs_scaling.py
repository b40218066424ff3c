"""docs/scaling.md: every command runs, in order, on a Ray cluster started for it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from reidkit.cli import main
from reidkit.distributed import Cluster
from reidkit.store import read_embeddings
from tests.pictures import write_samples
from tests.ray_cluster import ray_cluster as ray_cluster
from tests.test_benchmarking import write_fake

TEXT = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()


def run(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    words = shlex.split(line)
    assert words[0] == "reidkit"
    with pytest.raises(SystemExit) as exit_:
        main(words[1:])
    printed = capsys.readouterr()
    assert exit_.value.code == 0, (line, printed.err)
    return printed.out


@pytest.mark.slow
def test_every_command_runs_and_the_ways_agree(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ray_cluster: Cluster,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fake(tmp_path / "package")
    write_people(tmp_path / "people")
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) >= 10
    printed = {line: run(line, capsys) for line in lines}
    merged = read_embeddings("embeddings/gallery")
    joined = read_embeddings("joined")
    assert np.array_equal(joined.vectors, merged.vectors)
    assert joined.samples.paths.tolist() == merged.samples.paths.tolist()
    lines = [line for line in printed if line.startswith("reidkit evaluate")]
    assert len(lines) == 3
    whole = "reidkit evaluate embeddings/query embeddings/gallery --json"
    for line in lines:
        rerank = " --rerank" * ("--rerank" in line)
        expected = json.loads(run(f"{whole}{rerank}", capsys))
        found = json.loads(run(f"{line} --json", capsys))
        assert found["mAP"] == pytest.approx(expected["mAP"], abs=1e-6)
        assert found["cmc"] == pytest.approx(expected["cmc"], abs=1e-6)
    (enrolled,) = (text for line, text in printed.items() if line.startswith("reidkit gallery add"))
    assert f"{len(merged):,} crops enrolled" in enrolled


def write_people(root: Path) -> None:
    """Write a data set in Market-1501's layout."""
    samples = write_samples(root / "made", 40)
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (root / name).mkdir()
    for number, path in enumerate(samples.paths):
        person, camera = samples.person_ids[number], samples.camera_ids[number]
        folder = "query" if number % 10 == 0 else "bounding_box_test"
        Path(path).rename(root / folder / f"{person:04}_c{camera}s1_{number:06}_00.jpg")
    (root / "made").rmdir()
