"""`reidkit calibrate`: the command, from embeddings folders to a package."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reidkit import operating, store
from reidkit.cli import main
from reidkit.datasets.drawn._pictures import TEST, TRAIN, Shot, draw_picture
from reidkit.embedding import embed
from reidkit.errors import UnreadableImage
from reidkit.models import load_model
from reidkit.records import Embeddings, Samples
from tests.certified import write_fake
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


def test_a_wrong_package_and_a_wrong_place_are_refused_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def calibrate(*_given: object, **_options: object) -> None:
        raise RuntimeError("computed")

    monkeypatch.setattr(operating, "calibrate", calibrate)
    other = write(folder.parent / "package")
    for options, message in (
        (("--package", other.folder), "these embeddings are of another model"),
        (("--package", "nowhere"), "nowhere does not exist"),
        (("-o", folder / "manifest.json" / "x.json"), "cannot be written"),
    ):
        code, out, err = run(capsys, folder, *options)
        assert (code, out) == (1, "")
        assert message in err


def test_missing_folders_are_made_and_the_table_comes_before_a_failure(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run(capsys, folder, "-o", "a/b/points.json", "--rates", "0.1")
    assert code == 0, err
    assert operating.read_points("a/b/points.json").population.people == 60

    def fail(*_given: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(operating, "write_points", fail)
    code, out, err = run(capsys, folder, "--rates", "0.1")
    assert (code, "no space left" in err) == (1, True)
    assert "asked FAR" in out
    assert "EER" in out


def test_distances_are_printed_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, folder, "--rates", "0.1", "--metric", "euclidean")
    assert code == 0, err
    point = operating.read_points(operating.FILE).points[0]
    assert point.threshold < 0
    assert "distance at most" in out
    assert f" {-point.threshold:.5g} " in out
    assert "-" not in out.split("EER")[1].split("\n")[0]


def test_what_was_taken_for_granted_is_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = store.read_embeddings(folder)
    samples = dataclasses.replace(given.samples, person_ids=given.samples.person_ids - 1)
    lost = (UnreadableImage("lost.jpg", "truncated"),)
    given = dataclasses.replace(given, samples=samples, unreadable=lost)
    store.write_embeddings("a", dataclasses.replace(given.select(slice(0, 9)), unreadable=lost))
    store.write_embeddings("b", given.select(slice(9, None)))
    code, out, err = run(capsys, "a", "b", "--rates", "0.1")
    assert code == 0, err
    assert "note: 5 pictures of person 0 were taken as distractors" in out
    assert "note: 1 person ids come in several of the embeddings" in out
    assert "note: 1 unreadable pictures left out: lost.jpg" in out
    code, out, err = run(capsys, "a", "b", "--rates", "0.1", "--person-zero")
    assert code == 0, err
    assert "300 pictures of 60 people" in out
    assert "distractors" not in out


def test_the_false_accept_rate_of_other_people_is_what_the_command_said(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From pictures to the file, and from the file to people who were not in it."""
    package = write_fake(here / "package", size=64)
    with load_model(package) as model:
        for name, group in (("half", TEST), ("others", TRAIN)):
            store.write_embeddings(here / name, embed(model, draw(here, group), workers=1))
    code, _, err = run(capsys, "half", "--rates", "1e-2,1e-1", "--package", package.folder)
    assert code == 0, err
    points = operating.read_operating_points(package.folder)
    others = store.read_embeddings("others")
    operating.check_comparable(points, others, "cosine")
    persons = others.samples.person_ids
    scores = (others.vectors @ others.vectors.T)[np.less.outer(persons, persons)]
    assert [point.asked for point in points.points] == [1e-2, 1e-1]
    for point in points.points:
        assert point.FAR.low <= np.mean(scores >= point.threshold) <= point.FAR.high
        assert point.FAR.high < 4 * point.FAR.value


def draw(folder: Path, group: int) -> Samples:
    """Draw 45 people, each once by three cameras, into files."""
    shots = [Shot(group, person, camera, 0) for person in range(45) for camera in (1, 2, 3)]
    paths = [str(folder / f"{group}-{s.person}-{s.camera}.png") for s in shots]
    for path, shot in zip(paths, shots, strict=True):
        Image.fromarray(draw_picture(0, shot, (16, 32))).save(path)
    return Samples.from_columns(paths, [s.person + 1 for s in shots], [s.camera for s in shots])


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
    code, _, err = run(capsys, "crops", "--unlabelled", "sightings.csv", "--person-zero")
    assert (code, "nobody is known" in err) == (2, True)


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
