from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from reidkit import cli
from reidkit.benchmarking import STAGES, BatchSpeed, Speed, Spread
from reidkit.cli import _options, benchmark
from tests.pictures import write_picture
from tests.test_benchmarking import write_fake, write_onnx
from tests.test_cli import Runner

QUICK = ("--batch", "1,4", "--seconds", "0.02", "--workers", "1")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setitem(cli.reidkit_command.commands, "benchmark", benchmark.command)
    monkeypatch.setenv("COLUMNS", "100")
    return Runner(capsys)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A table with two gallery pictures and one of each other split."""
    rows = ["path,person_id,camera_id,split"]
    for i, split in enumerate(("gallery", "gallery", "query", "train")):
        write_picture(tmp_path / f"{i}.jpg", seed=i)
        rows.append(f"{i}.jpg,1,{i + 1},{split}")
    (tmp_path / "dataset.csv").write_text("\n".join(rows))
    return tmp_path


def test_tables_for_people(run: Runner, data: Path) -> None:
    write_fake(data / "p")
    result = run.well("benchmark", data / "p", *QUICK, "--data", data)
    out = " ".join(result.out.split())
    assert "fp32): fake on cpu" in out
    for heading in ("batch", "engine /s", "end to end /s", "share", "p99 ms", *STAGES):
        assert heading in out
    assert "best batch " in out
    assert "cold start " in out
    assert "differ by at most 0.0e+00 from batch to batch" in out
    assert "WRONG" not in out
    assert "first / the second" not in out
    assert "measuring" in result.err
    assert "measuring" not in result.out


def test_two_packages_as_json_and_as_a_file(run: Runner, data: Path) -> None:
    write_fake(data / "p")
    write_onnx(data / "q", batch=4)
    out = data / "new" / "speed.json"
    arguments = ("benchmark", data / "p", *QUICK, "--data", data, "--against", data / "q")
    found = run.well(*arguments, "--threads", "1", "--json", "-o", out).json
    assert json.loads(out.read_text()) == found
    first, second = found["packages"]
    assert (first["name"], first["runtime"], first["threads"]) == ("p", "fake", 1)
    assert (second["name"], second["runtime"]) == ("q", "onnxruntime")
    assert [batch["batch"] for batch in first["batches"]] == [1, 4]
    assert [batch["batch"] for batch in second["batches"]] == [4]
    (ratio,) = found["comparison"]["batches"]
    rates = [package["batches"][-1]["engine_rate"] for package in (first, second)]
    assert ratio["batch"] == 4
    assert ratio["engine"] == rates[0] / rates[1]
    assert set(first["batches"][0]["stages"]) == set(STAGES)


def test_ratios_and_wrong_vectors_for_people(run: Runner, data: Path) -> None:
    write_fake(data / "p")
    write_onnx(data / "q", mix=0.4)
    result = run.well("benchmark", data / "p", *QUICK, "--data", data, "--against", data / "q")
    out = " ".join(result.out.split())
    assert "speed, the first / the second" in out
    assert "each's best" in out
    assert "WRONG: at batch 4 a picture's vector depends on the pictures beside it" in out


def test_pictures_are_drawn_without_data(run: Runner, tmp_path: Path) -> None:
    write_fake(tmp_path / "p")
    found = run.well("benchmark", tmp_path / "p", *QUICK, "--json").json
    assert found["comparison"] is None
    assert len(found["packages"]) == 1


def test_errors_in_one_line(run: Runner, data: Path, tmp_path: Path) -> None:
    write_fake(data / "p", largest=1)
    line = run.fails("benchmark", data / "p", *QUICK, "--data", data)
    assert "batch 4 does not work" in line
    assert "the largest that worked is 1" in line
    write_fake(data / "fixed", batch=8)
    assert "takes batches of 8 only" in run.fails("benchmark", data / "fixed", *QUICK)
    assert "does not exist" in run.fails("benchmark", tmp_path / "nowhere", *QUICK)
    assert "seconds is nan" in run.fails("benchmark", data / "p", "--seconds", "nan")
    out = data / "speed.json"
    run.fails("benchmark", data / "p", *QUICK, "--data", data, "-o", out)
    assert not out.exists()
    (data / "dataset.csv").write_text("path,person_id,camera_id,split\n2.jpg,1,1,query\n")
    line = run.fails("benchmark", data / "p", *QUICK, "--data", data)
    assert "its gallery split is empty" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "1,two"), "'1,two' is not a list of batch sizes"),
        (("--batch", "0,1"), "'0,1' is not a list of batch sizes"),
        (("--batch", ""), "'' is not a list of batch sizes"),
        (("--seconds", "0"), "--seconds"),
        (("--layout", "table"), "--layout goes with --data"),
    ],
)
def test_wrong_usage(run: Runner, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    write_fake(tmp_path / "p")
    assert message in run.fails("benchmark", tmp_path / "p", *arguments, code=2)


def test_batch_sizes_are_parsed() -> None:
    assert _options.whole_numbers("1, 4,16") == [1, 4, 16]
    with pytest.raises(click.BadParameter):
        _options.whole_numbers("-1")


def test_a_fall_above_the_best_batch_is_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    def batch(size: int, rate: float) -> BatchSpeed:
        spread = Spread(size / rate, 1, 1, 0, 1, 3)
        return BatchSpeed(size, spread, spread, rate, rate, dict.fromkeys(STAGES, 0.0), 0.0)

    batches = (batch(1, 50), batch(4, 2000), batch(8, 1000), batch(16, 1950))
    speed = Speed("a", "s" * 64, "int8", "fake", "cpu", 2, batches, 4, 1.0, 0, 100)
    benchmark._print_speed(speed, "folder")
    out = " ".join(capsys.readouterr().out.split())
    assert "more than 5 % slower above the best batch, at 8: use 4" in out
    assert "best batch 4: 2,000 pictures/s" in out
    assert "peak memory unknown" in out
