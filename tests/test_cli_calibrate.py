"""`reidkit calibrate`: the command, from embeddings folders to a package."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit import operating, store
from reidkit.cli import main
from reidkit.records import Embeddings
from tests.test_operating import gaussian_people
from tests.test_operating_unlabelled import footage
from tests.test_package import write


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command; give its exit code and what it printed."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["calibrate", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert isinstance(exit_.value.code, int)
    return exit_.value.code, out, err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def folder(here: Path) -> Path:
    store.write_embeddings(here / "people", gaussian_people(0, 60, 5, noise=0.7))
    return here / "people"


def test_it_prints_a_table_and_writes_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, folder)
    assert code == 0, err
    points = operating.read_points("operating-points.json")
    assert [point.asked for point in points.points] == [1e-3, 1e-2, 1e-1]
    for point in points.points:
        assert f"{point.threshold:.4f}" in out
        assert f"{100 * point.TAR.value:.2f}" in out
    assert f"EER {100 * points.equal_error.EER.value:.2f} (" in out
    assert "unsupported: TAR at FAR 0.0001: 44,250 impostor pairs give 4.4 false accepts" in out
    assert "about 157 people would do" in out
    assert "300 pictures of 60 people, 3 cameras: 480 genuine and 44,250 impostor pairs" in out
    assert "written to operating-points.json" in out


def test_options_reach_the_library(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rates", "1/50, 0.1", "--metric", "euclidean", "--same-camera", "--seed", "3"]
    code, out, err = run(capsys, folder, *options, "-o", "other.json", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found.pop("written") == ["other.json"]
    expected = operating.calibrate(
        store.read_embeddings(folder),
        rates=[0.02, 0.1],
        metric="euclidean",
        settings=operating.Settings(same_camera=True, seed=3),
    )
    assert operating.read_points("other.json") == expected
    assert found["same_camera"]
    assert found["points"][0]["threshold"] == expected.points[0].threshold < 0
    assert not Path("operating-points.json").exists()


def test_several_folders_are_joined(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = store.read_embeddings(folder)
    store.write_embeddings("a", whole.select(slice(0, 140)))
    store.write_embeddings("b", whole.select(slice(140, None)))
    assert run(capsys, "a", "b", "--json", "--rates", "0.1")[0] == 0
    assert operating.read_points("operating-points.json") == operating.calibrate(whole, rates=[0.1])


def own(given: Embeddings, package: Any) -> Embeddings:
    return dataclasses.replace(
        given,
        model_sha256=package.spec.engine.identity,
        contract_sha256=package.spec.input.sha256,
    )


def test_a_package_takes_its_own_points(
    here: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = write(here / "package")
    code, _, err = run(capsys, folder, "--package", package.folder)
    assert code == 1
    assert "calibrate again" in err
    assert not (package.folder / operating.FILE).exists()
    store.write_embeddings("own", own(store.read_embeddings(folder), package))
    code, out, err = run(capsys, "own", "--package", package.folder)
    assert code == 0, err
    assert "written to" in out
    assert operating.FILE in out
    assert operating.read_operating_points(package).population.people == 60
    assert not Path(operating.FILE).exists()


def test_nothing_supported_is_exit_code_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, folder, "--rates", "1e-5,1e-6")
    assert (code, out) == (1, "")
    assert "supports none of the false-accept rates asked for: 1e-06: 44,250" in err
    assert not Path("operating-points.json").exists()


def test_footage_without_labels(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, sightings, _ = footage(2, groups=20)
    paths = [str(here / path) for path in sightings.paths]
    samples = dataclasses.replace(given.samples, paths=np.array(paths, np.object_))
    store.write_embeddings("crops", dataclasses.replace(given, samples=samples))
    columns = (sightings.paths, sightings.cameras, sightings.moments, sightings.tracks)
    rows = [
        f"{path},{camera},{moment},{track}"
        for path, camera, moment, track in zip(*columns, strict=True)
    ]
    Path("sightings.csv").write_text("\n".join(["path,camera,time,track", *rows]))
    code, out, err = run(capsys, "crops", "--unlabelled", "sightings.csv", "--rates", "0.1,0.05")
    assert code == 0, err
    assert "480 pictures of 80 tracks, 2 cameras: 720 genuine and 720 impostor pairs" in out
    assert "mean score: same track" in out
    assert "note: genuine pairs are halves of one track" in out
    assert not operating.read_points("operating-points.json").labelled
    code, _, err = run(capsys, "crops", "--unlabelled", "sightings.csv", "--same-camera")
    assert (code, "tracks have one camera" in err) == (2, True)


@pytest.mark.parametrize("rates", ["", "0.1,x", "1/0"])
def test_rates_that_are_none(folder: Path, rates: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, folder, "--rates", rates)
    assert code == 2
    assert "is not a list of rates, such as 1e-3,1e-2" in " ".join(err.split())


def test_rates_beyond_one_and_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, folder, "--rates", "2")[0] == 1
    assert run(capsys)[0] == 2
    code, _, err = run(capsys, "nowhere")
    assert (code, "does not exist" in err) == (1, True)
