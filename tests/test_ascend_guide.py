"""The whole guide: streaming and with files, killed and finished, against `score`."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from reidkit import networks, scoring
from reidkit.ascend._models import open_model
from reidkit.ascend.guide import (
    BatchRow,
    GuideResult,
    GuideSettings,
    _guide,
    _streaming,
    follow_guide,
    result_as_json,
    write_tables,
)
from reidkit.ascend.guide._steps import Steps, scores_as_fields, scores_from_fields
from reidkit.cli.ascend.guide import command
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.embedding import embed
from reidkit.errors import (
    ArgumentError,
    CheckpointError,
    CompileError,
    DatasetError,
    ReidkitError,
    UnreadableImagesError,
)
from reidkit.models import load_model
from reidkit.package import InputSpec
from reidkit.records import JUNK, Dataset, DroppedQueries, Scores

SMALL = InputSpec(height=32, width=16)
SETTINGS = GuideSettings(batches=(1, 4), contract=SMALL)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Measure for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_streaming, "MEASURED_SECONDS", 0.05)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and a drawn data set."""
    folder = tmp_path_factory.mktemp("guide")
    save_file(networks.initial_tensors(networks.Network("osnet_x0_25")), folder / "x.safetensors")
    draw_dataset(folder / "data", people=6, cameras=3)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return load_dataset("market1501", folder / "data")


@pytest.fixture(scope="module")
def streamed(folder: Path, dataset: Dataset) -> GuideResult:
    return follow_guide(folder / "x.safetensors", dataset, folder / "streamed", settings=SETTINGS)


def expected_scores(package: Path, dataset: Dataset) -> Scores:
    gallery = dataset.scored_gallery
    with load_model(package) as model:
        return scoring.evaluate(embed(model, dataset.query), embed(model, gallery))


def figures(scores: Scores) -> tuple[Any, ...]:
    return (scores.mAP, scores.mINP, scores.cmc.tolist(), scores.queries, scores.gallery)


def test_streaming_gives_the_scores_of_score(
    streamed: GuideResult, folder: Path, dataset: Dataset
) -> None:
    expected = expected_scores(folder / "streamed" / "package", dataset)
    assert figures(streamed.source) == figures(expected)
    assert streamed.device.mAP == pytest.approx(expected.mAP, abs=1e-6)
    assert [row.batch for row in streamed.rows] == [1, 4]
    assert all(row.throughput > 0 and row.end_to_end > 0 for row in streamed.rows)
    assert all(row.difference < 1e-5 for row in streamed.rows)
    assert streamed.bytes_written == 0
    assert (streamed.chip, streamed.device_name, streamed.way) == (False, "cpu", "streaming")
    assert not list((folder / "streamed").rglob("*.bin"))


def test_files_give_the_same_scores(streamed: GuideResult, folder: Path, dataset: Dataset) -> None:
    settings = dataclasses.replace(SETTINGS, files=True)
    out = folder / "files"
    result = follow_guide(folder / "x.safetensors", dataset, out, settings=settings)
    assert figures(result.source) == figures(streamed.source)
    assert result.device.mAP == pytest.approx(streamed.device.mAP, abs=1e-6)
    pictures = len(dataset.query) + int((dataset.gallery.person_ids != JUNK).sum())
    assert [row.pictures for row in result.rows] == [pictures, pictures]
    assert len(list((out / "prep_dataset").glob("*.bin"))) == pictures
    assert len(list((out / "bs4").glob("*_0.bin"))) == pictures
    vector = 4 * 512
    assert result.bytes_written >= pictures * (3 * 32 * 16 * 4 + 2 * vector)
    assert all(row.difference < 1e-5 for row in result.rows)
    # A bin that was lost meanwhile is made again.
    next((out / "prep_dataset").glob("*.bin")).unlink()
    again = follow_guide(folder / "x.safetensors", dataset, out, settings=settings)
    assert figures(again.device) == figures(result.device)
    assert len(list((out / "prep_dataset").glob("*.bin"))) == pictures
    # So are outputs.
    shutil.rmtree(out / "bs4")
    again = follow_guide(folder / "x.safetensors", dataset, out, settings=settings)
    assert figures(again.device) == figures(result.device)
    assert len(list((out / "bs4").glob("*_0.bin"))) == pictures


def test_files_of_other_data_are_not_measured(
    folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, files=True, batches=(4,))
    draw_dataset(tmp_path / "data", people=4, cameras=2, seed=5)
    other = load_dataset("market1501", tmp_path / "data")
    for data in (dataset, other):
        result = follow_guide(folder / "x.safetensors", data, tmp_path / "o", settings=settings)
        scored = len(data.query) + int((data.gallery.person_ids != JUNK).sum())
        assert result.rows[0].pictures == scored


def test_the_result_is_on_disk(streamed: GuideResult, folder: Path) -> None:
    assert json.loads((folder / "streamed" / "guide.json").read_bytes()) == json.loads(
        json.dumps(result_as_json(streamed))
    )
    assert (folder / "streamed" / "guide.md").read_text() == write_tables(streamed)


def test_finished_steps_are_not_done_again(
    streamed: GuideResult, folder: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Scores:
        raise AssertionError("done again")

    monkeypatch.setattr(_streaming, "score_model", refuse)
    monkeypatch.setattr(_streaming, "measure_batch", refuse)
    again = follow_guide(folder / "x.safetensors", dataset, folder / "streamed", settings=SETTINGS)
    assert figures(again.device) == figures(streamed.device)
    assert again.rows == streamed.rows


def test_other_data_is_scored_anew(
    streamed: GuideResult,
    folder: Path,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scored = []

    def note(*arguments: Any) -> Scores:
        scored.append(arguments)
        return streamed.source

    monkeypatch.setattr(_streaming, "score_model", note)
    smaller = dataclasses.replace(dataset, query=dataset.query.select(slice(0, 5)))
    shutil.copytree(folder / "streamed", tmp_path / "o")
    follow_guide(folder / "x.safetensors", smaller, tmp_path / "o", settings=SETTINGS)
    assert len(scored) == 2


def test_a_compiled_file_that_was_changed_is_made_again(
    streamed: GuideResult, folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    shutil.copytree(folder / "streamed", tmp_path / "o")
    file = tmp_path / "o" / "ReID_bs4.om"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ReidkitError):
        open_model(file)
    follow_guide(folder / "x.safetensors", dataset, tmp_path / "o", settings=SETTINGS)
    open_model(file).close()


@pytest.mark.parametrize("step", ["_score_source", "compile_once", "_measure", "_score_device"])
def test_a_run_that_fails_leaves_no_result(
    folder: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise CompileError("lost")

    settings = dataclasses.replace(SETTINGS, batches=(4,))
    (tmp_path / "work").mkdir()
    (tmp_path / "guide.json").write_text("{}")
    (tmp_path / "guide.md").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(_guide, step, fail)
        with pytest.raises(CompileError, match="lost"):
            follow_guide(folder / "x.safetensors", dataset, tmp_path, settings=settings)
    assert not (tmp_path / "guide.json").exists()
    assert not (tmp_path / "guide.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("way", [[], ["--files"]])
def test_a_killed_run_is_finished_by_the_same_command(
    folder: Path, streamed: GuideResult, tmp_path: Path, way: list[str]
) -> None:
    out = tmp_path / "out"
    line = [sys.executable, "-m", "reidkit", "ascend", "guide", str(folder / "x.safetensors")]
    line += ["--data", str(folder / "data"), "--batch", "4", "--size", "32x16", "-o", str(out)]
    process = subprocess.Popen([*line, *way], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not (out / "work" / "compile-bs4.json").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "guide.json").exists()
    source = (out / "work" / "source.json").read_bytes()
    subprocess.run([*line, *way], check=True, capture_output=True)
    result = json.loads((out / "guide.json").read_bytes())
    assert result["accuracy"]["device"]["mAP"] == pytest.approx(streamed.device.mAP, abs=1e-6)
    assert (out / "work" / "source.json").read_bytes() == source


def test_what_the_guide_did_not_make_is_not_touched(
    folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "guide.md").write_text("mine")
    with pytest.raises(ArgumentError, match=r"holds guide\.md of something else"):
        follow_guide(folder / "x.safetensors", dataset, tmp_path, settings=SETTINGS)
    (tmp_path / "work").mkdir()
    with pytest.raises(CheckpointError, match="does not exist"):
        follow_guide(folder / "none.pth", dataset, tmp_path, settings=SETTINGS)
    assert (tmp_path / "guide.md").read_text() == "mine"


def test_an_unreadable_picture_is_named(folder: Path, tmp_path: Path) -> None:
    draw_dataset(tmp_path / "data", people=4, cameras=2)
    broken = sorted((tmp_path / "data" / "query").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    dataset = load_dataset("market1501", tmp_path / "data")
    with pytest.raises(UnreadableImagesError, match=broken.name):
        follow_guide(folder / "x.safetensors", dataset, tmp_path / "o", settings=SETTINGS)
    assert not (tmp_path / "o" / "guide.json").exists()


def test_files_need_the_layout_that_the_steps_read(
    folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    table = dataclasses.replace(dataset, name="table")
    settings = dataclasses.replace(SETTINGS, files=True)
    with pytest.raises(DatasetError, match="leave out --files"):
        follow_guide(folder / "x.safetensors", table, tmp_path / "o", settings=settings)


@pytest.mark.parametrize("batches", [(), (0,), (4, -1)])
def test_batch_sizes_are_checked(batches: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match="expected some, from 1"):
        GuideSettings(batches=batches)


def test_the_command_prints_the_tables(folder: Path, streamed: GuideResult) -> None:
    line = [str(folder / "x.safetensors"), "--data", str(folder / "data"), "--batch", "1,4"]
    line += ["--size", "32x16", "-o", str(folder / "streamed")]
    shown = CliRunner().invoke(command, line, catch_exceptions=False)
    assert shown.exit_code == 0
    assert write_tables(streamed).splitlines()[:5] == shown.stdout.splitlines()[:5]
    as_json = CliRunner().invoke(command, [*line, "--json"], catch_exceptions=False)
    assert json.loads(as_json.stdout)["throughput"] == result_as_json(streamed)["throughput"]


def a_result(**change: Any) -> GuideResult:
    scores = Scores(0.859, 0.5, np.array([0.945, 0.96], np.float32), 3368, 2, "cosine")
    rows = (BatchRow(1, 100.0, 90.0, 50, 0.0), BatchRow(8, 400.0, 380.0, 50, 1e-7))
    fields: dict[str, Any] = {
        "model": "net",
        "source": scores,
        "device": scores,
        "device_name": "cpu",
        "chip": False,
        "scored_batch": 8,
        "rows": rows,
        "way": "streaming",
        "seconds": {},
        "bytes_written": 0,
    }
    return GuideResult(**fields | change)


def test_tables_say_what_the_device_is() -> None:
    text = write_tables(a_result())
    assert "| source (onnxruntime) | 85.9 % | 94.5 % |" in text
    assert "| device, batch 8 | 85.9 % | 94.5 % |" in text
    assert "| 8 | 400.0 (best) | 380.0 | 0.95 | 1.0e-07 |" in text
    assert "this machine (cpu): no chip was found" in text
    assert "the chip (Ascend310P3)" in write_tables(a_result(chip=True, device_name="Ascend310P3"))


@given(
    cmc=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5),
    values=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    counts=st.tuples(*[st.integers(0, 9)] * 3),
)
def test_scores_survive_json(
    cmc: list[float], values: tuple[float, float], counts: tuple[int, int, int]
) -> None:
    scores = Scores(*values, np.array(cmc, np.float32), 3, 4, "cosine", DroppedQueries(*counts))
    back = scores_from_fields(json.loads(json.dumps(scores_as_fields(scores))))
    assert figures(back) == figures(scores)
    assert dataclasses.astuple(back.dropped) == counts


def make(value: int, made: list[int]) -> Callable[[], dict[str, Any]]:
    def compute() -> dict[str, Any]:
        made.append(value)
        return {"value": value}

    return compute


def test_a_step_is_found_once_for_each_identity(tmp_path: Path) -> None:
    made: list[int] = []
    steps = Steps(tmp_path, "one")
    assert steps.find("a", "v", make(1, made)) == {"value": 1}
    assert Steps(tmp_path, "one").find("a", "v", make(2, made)) == {"value": 1}
    assert Steps(tmp_path, "one").find("a", "w", make(3, made)) == {"value": 3}
    assert Steps(tmp_path, "two").find("a", "w", make(4, made)) == {"value": 4}
    steps.forget("a")
    steps.forget("a")
    assert Steps(tmp_path, "two").find("a", "w", make(5, made)) == {"value": 5}
    assert made == [1, 3, 4, 5]
    assert steps.seconds["a"] >= 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"found": {}}'])
def test_a_damaged_step_is_found_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert Steps(tmp_path, "one").find("a", "v", make(1, [])) == {"value": 1}
