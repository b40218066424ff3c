"""The label-free check: against loops over pairs, and against the labelled one."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.datasets.drawn._pictures import TEST, Shot, draw_picture
from reidkit.errors import (
    CalibrationError,
    DatasetError,
    MismatchError,
    ShapeError,
    UnreadableImage,
)
from reidkit.operating import (
    Settings,
    Sightings,
    calibrate,
    calibrate_unlabelled,
    read_points,
    read_sightings,
    write_points,
)
from reidkit.operating import _crops as crops
from reidkit.operating._crops import Crops, Groups, Space, number_units
from reidkit.operating._grid import make_grid
from reidkit.operating._resampling import draw_weights
from reidkit.records import Embeddings, Samples

QUICK = Settings(replicates=100)


def sight(
    cameras: NDArray[np.int64], moments: NDArray[Any], tracks: NDArray[np.int64]
) -> Sightings:
    paths = np.empty(len(tracks), np.object_)
    paths[:] = [f"crops/{row}.jpg" for row in range(len(tracks))]
    return Sightings(paths, cameras, np.asarray(moments, np.float64), tracks)


def embed(vectors: NDArray[np.float64], paths: NDArray[np.object_]) -> Embeddings:
    samples = Samples.from_paths(list(paths))
    return Embeddings(vectors.astype(np.float32), samples, "m" * 64, "c" * 64)


def footage(
    seed: int, *, groups: int = 15, people: int = 4, times: int = 6, noise: float = 0.4
) -> tuple[Embeddings, Sightings, NDArray[np.int64]]:
    """Let people walk by in groups, all of a group in each frame; also give who is who."""
    random = np.random.default_rng(seed)
    persons = np.repeat(np.arange(groups * people), times)
    centres = random.standard_normal((groups * people, 12))[persons]
    vectors = centres + noise * random.standard_normal(centres.shape)
    vectors[:, 0] += 1
    group = persons // people
    moments = np.tile(np.arange(float(times)), groups * people) + 100 * group
    sightings = sight(group % 2, moments, persons)
    return embed(vectors, sightings.paths), sightings, persons + 1


# Against loops


@st.composite
def scenes(draw: st.DrawFn) -> Crops:
    """Crops in crowded frames; some have no track, some a track that comes twice in a frame."""
    count = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tracks = random.integers(-1, draw(st.integers(0, 6)) + 1, count)
    cameras = np.where(tracks < 0, random.integers(0, 2, count), tracks % 2)
    moments = random.integers(0, draw(st.integers(1, 8)) + 1, count).astype(np.float64)
    rows = random.permutation(count)
    return Crops(rows, cameras, moments, tracks, number_units(tracks))


def list_pairs(groups: Groups, space: Space) -> list[tuple[int, int]]:
    """Find out which rows meet: every row's vector scores differently with every other."""
    table = {
        float(np.float32(-abs(float(a[0]) - float(b[0])))): (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(space.vectors), 2)
    }
    found = [table[float(score)] for part in groups.score(space) for score in part.scores]
    assert len(found) == len(set(found))
    return sorted(found)


def space_of(count: int) -> Space:
    # Distances between triangular numbers times an irrational: float32 holds squares of these.
    vectors = (2.0 ** np.arange(count) if count < 12 else golomb(count))[:, None]
    vectors = vectors.astype(np.float32)
    return Space(vectors, "euclidean", make_grid(vectors, "euclidean"))


def golomb(count: int) -> NDArray[np.float64]:
    """Give whole numbers whose differences all differ (Erdős and Turán, 1941)."""
    prime = next(p for p in (13, 29, 41, 43) if p > count)
    return np.array([2.0 * prime * k + k * k % prime for k in range(count)])


@given(scenes())
@settings(max_examples=30, deadline=None)
def test_pairs_are_those_of_a_loop(scene: Crops) -> None:
    space = space_of(len(scene))
    impostors, genuine = [], []
    for i, j in itertools.combinations(range(len(scene)), 2):
        pair = tuple(sorted((int(scene.rows[i]), int(scene.rows[j]))))
        a, b = scene.tracks[i], scene.tracks[j]
        together = scene.cameras[i] == scene.cameras[j] and scene.moments[i] == scene.moments[j]
        if together and (a != b or a < 0):
            impostors.append(pair)
        if a == b >= 0:
            own = np.flatnonzero(scene.tracks == a)
            order = own[np.argsort(scene.moments[own], kind="stable")].tolist()
            if (order.index(i) < len(own) // 2) != (order.index(j) < len(own) // 2):
                genuine.append(pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crops, "_PART", 7)
        assert list_pairs(scene.group_frames(), space) == sorted(impostors)
        assert list_pairs(scene.group_halves(), space) == sorted(genuine)


def test_long_tracks_are_thinned_evenly() -> None:
    count = 201
    tracks, moments = np.zeros(count, np.int64), np.arange(float(count))
    scene = Crops(np.arange(count), tracks, moments, tracks, tracks)
    halves = scene.group_halves()
    for side, start, stop in ((0, 0, 100), (1, 100, 201)):
        chosen = halves.rows[halves.sides == side]
        assert len(chosen) == 32
        assert start <= chosen.min() <= chosen.max() < stop
        assert set(np.diff(chosen)) == {3, 4}


def test_tracks_that_are_drawn_again_weigh_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    given_, sightings, _ = footage(3, groups=6)
    monkeypatch.setattr(crops, "_MERGED", 5)
    units = number_units(sightings.tracks)
    scene = Crops(
        np.arange(len(units)), sightings.cameras, sightings.moments, sightings.tracks, units
    )
    space = Space(given_.vectors, "cosine", make_grid(given_.vectors, "cosine"))
    weights = draw_weights((24,), 100, 0)
    frames = scene.group_frames()
    keys, counts = crops.count_by_couple(frames, space, thresholds=[0.25], units=24)
    kin = crops.count_by_unit(scene.group_halves(), space, thresholds=[0.25], units=24)
    (found,) = crops.vary_couples(keys, counts, kin, weights)
    pairs = [pair for part in frames.score(space) for pair in zip(*part, strict=True)]
    assert len(pairs) == 6 * 6 * 6
    rate = np.mean([score >= np.float32(0.25) for *_, score in pairs])
    assert found.rate == pytest.approx(rate)
    for replicate in range(0, 100, 13):
        drawn = weights[:, replicate]
        weight = np.array([drawn[a] * drawn[b] for a, b, _ in pairs])
        accepted = np.array([score >= np.float32(0.25) for *_, score in pairs])
        off = (weight * accepted).sum() / weight.sum() - rate
        assert found.deviations[replicate] == pytest.approx(off)
    assert found.couples == len({(a, b) for a, b, score in pairs if score >= np.float32(0.25)})
    # Three crops of each half.
    assert kin[-1].tolist() == [9] * 24


# Beside the labelled calibration


def test_it_agrees_with_the_labelled_calibration() -> None:
    given_, sightings, persons = footage(1, groups=20, noise=0.5)
    known = dataclasses.replace(
        given_, samples=Samples.from_columns(list(sightings.paths), persons, persons % 2)
    )
    free = calibrate_unlabelled(given_, sightings, rates=[0.05, 0.1], settings=QUICK)
    assert not free.labelled
    labelled = calibrate(
        known, rates=[0.05, 0.1], settings=dataclasses.replace(QUICK, same_camera=True)
    )
    unit = given_.vectors / np.linalg.norm(given_.vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    later = np.triu(np.ones(scores.shape, np.bool_), 1)
    same = persons[:, None] == persons
    for point, beside in zip(free.points, labelled.points, strict=True):
        accepted = np.mean(scores[later & ~same] >= point.threshold)
        assert point.FAR.low <= accepted <= point.FAR.high
        found = np.mean(scores[later & same] >= point.threshold)
        assert point.TAR.low <= found <= point.TAR.high
        # Whoever has labels too is surer of the same.
        assert beside.FAR.high / beside.FAR.low < point.FAR.high / point.FAR.low
    assert free.population.people == labelled.population.people == 80


def test_drawn_people_agree_with_and_without_labels() -> None:
    """One camera sees people in groups of four."""
    shots = [Shot(TEST, person, 1, number) for person in range(60) for number in range(4)]
    pictures = np.stack([draw_picture(5, shot, (16, 32)) for shot in shots]).astype(np.float64)
    stripes = pictures[:, :, 4:12].reshape(len(shots), 8, 4, 8, 3).mean(axis=(2, 3))
    vectors = (stripes - stripes.mean(axis=0)).reshape(len(shots), -1)
    persons = np.array([shot.person for shot in shots])
    times = np.array([shot.number for shot in shots]) + 10.0 * (persons // 4)
    sightings = sight(np.ones(len(shots), np.int64), times, persons)
    free = calibrate_unlabelled(embed(vectors, sightings.paths), sightings, rates=[0.1, 0.2])
    samples = Samples.from_columns(list(sightings.paths), persons + 1, sightings.cameras)
    known = Embeddings(vectors.astype(np.float32), samples)
    labelled = calibrate(known, rates=[0.1, 0.2], settings=Settings(same_camera=True))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    strangers = (unit @ unit.T)[np.less.outer(persons, persons)]
    for point, beside in zip(free.points, labelled.points, strict=True):
        assert point.FAR.low <= np.mean(strangers >= point.threshold) <= point.FAR.high
        assert point.FAR.low <= beside.FAR.value <= point.FAR.high
    assert free.control is not None
    assert free.control.separation > 0.9
    assert free.control.mean_genuine > free.control.mean_impostor
    assert not any(note.startswith("WARNING") for note in free.notes)


def test_a_collapsed_model_is_warned_of(tmp_path: Path) -> None:
    given_, sightings, _ = footage(0)
    random = np.random.default_rng(0)
    noise = 1 + 0.01 * random.standard_normal(given_.vectors.shape)
    collapsed = dataclasses.replace(given_, vectors=noise.astype(np.float32))
    points = calibrate_unlabelled(collapsed, sightings, rates=[0.1], settings=QUICK)
    assert points.control is not None
    assert points.control.separation == pytest.approx(0.5, abs=0.05)
    assert points.control.mean_random == pytest.approx(points.control.mean_genuine, abs=1e-4)
    assert points.notes[0].startswith("WARNING: a genuine pair scores higher than a random one in")
    write_points(tmp_path / "points.json", points)
    assert read_points(tmp_path / "points.json") == points
    equal = dataclasses.replace(given_, vectors=np.ones_like(given_.vectors))
    with pytest.raises(CalibrationError, match="equal scores"):
        calibrate_unlabelled(equal, sightings, rates=[0.1], settings=QUICK)


def test_blind_spots_are_said() -> None:
    given_, sightings, _ = footage(0)
    notes = calibrate_unlabelled(given_, sightings, rates=[0.1], settings=QUICK).notes
    assert ["halves of one track" in notes[0], "appear together" in notes[1]] == [True, True]


def test_euclidean_distances_give_the_same_order() -> None:
    """Of unit vectors the distance says what the cosine says."""
    given_, sightings, _ = footage(0)
    unit = given_.vectors / np.linalg.norm(given_.vectors, axis=1, keepdims=True)
    given_ = dataclasses.replace(given_, vectors=unit)
    cosine = calibrate_unlabelled(given_, sightings, rates=[0.1], settings=QUICK)
    euclidean = calibrate_unlabelled(
        given_, sightings, rates=[0.1], metric="euclidean", settings=QUICK
    )
    distance = np.sqrt(2 - 2 * cosine.points[0].threshold)
    assert euclidean.points[0].threshold == pytest.approx(-distance, abs=1e-3)
    assert euclidean.points[0].TAR.value == pytest.approx(cosine.points[0].TAR.value, abs=0.01)


# What does not fit


def test_what_only_one_side_has_is_counted_and_named() -> None:
    given_, sightings, _ = footage(0)
    points = calibrate_unlabelled(
        given_.select(slice(2, None)), sightings, rates=[0.1], settings=QUICK
    )
    assert points.notes[0] == "2 sightings have no vector: crops/0.jpg, crops/1.jpg"
    fewer = Sightings(
        *(getattr(sightings, name)[:-1] for name in ("paths", "cameras", "moments", "tracks"))
    )
    points = calibrate_unlabelled(given_, fewer, rates=[0.1], settings=QUICK)
    assert points.notes[0] == "1 pictures have no sighting: crops/359.jpg"
    twice = sightings.paths.copy()
    twice[1] = "./" + twice[0]
    both = r"one picture: crops/0\.jpg and \./crops/0\.jpg \(sightings 0 and 1,"
    with pytest.raises(MismatchError, match=both):
        calibrate_unlabelled(given_, dataclasses.replace(sightings, paths=twice))
    elsewhere = dataclasses.replace(given_.samples, paths=given_.samples.paths + "x")
    with pytest.raises(MismatchError, match=r"know crops/0\.jpgx, the sightings crops/0\.jpg;"):
        calibrate_unlabelled(dataclasses.replace(given_, samples=elsewhere), sightings)


def test_two_vectors_of_one_picture_are_refused_if_they_differ() -> None:
    given_, sightings, _ = footage(0)
    paths = given_.samples.paths.copy()
    paths[5] = "./" + paths[4]
    doubled = dataclasses.replace(given_, samples=dataclasses.replace(given_.samples, paths=paths))
    message = r"1 pictures .* two different vectors.*: \./crops/4\.jpg \(rows 4 and 5\)"
    with pytest.raises(MismatchError, match=message):
        calibrate_unlabelled(doubled, sightings)
    vectors = given_.vectors.copy()
    vectors[5] = vectors[4]
    equal = dataclasses.replace(doubled, vectors=vectors)
    points = calibrate_unlabelled(equal, sightings, rates=[0.1], settings=QUICK)
    assert points.notes[0] == "1 sightings have no vector: crops/5.jpg"
    assert not any("no sighting" in note for note in points.notes)


def test_unreadable_crops_are_counted_and_named() -> None:
    given_, sightings, _ = footage(0)
    lost = (UnreadableImage("crops/x.jpg", "truncated"),)
    points = calibrate_unlabelled(
        dataclasses.replace(given_, unreadable=lost), sightings, rates=[0.1], settings=QUICK
    )
    assert points.population.unreadable == 1
    assert points.notes[0] == "1 unreadable pictures left out: crops/x.jpg"


def test_little_memory_puts_tracks_into_groups() -> None:
    given_, sightings, _ = footage(1, groups=60, people=16, times=2)
    points = calibrate_unlabelled(given_, sightings, rates=[0.05], settings=QUICK)
    small = calibrate_unlabelled(
        given_, sightings, rates=[0.05], settings=dataclasses.replace(QUICK, memory=2**20)
    )
    assert points.points[0].threshold == small.points[0].threshold
    assert points.points[0].FAR.value == small.points[0].FAR.value
    assert points.population == small.population
    units = number_units(sightings.tracks)
    columns = sightings.cameras, sightings.moments, sightings.tracks
    scene = Crops(np.arange(len(units)), *columns, units)
    assert crops.limit_units(scene, 2**30, thresholds=2).units.max() == 959
    assert crops.limit_units(scene, 2**20, thresholds=2).units.max() < 120
    assert small.points[0].FAR.low == pytest.approx(points.points[0].FAR.low, rel=0.5)
    assert small.points[0].FAR.high == pytest.approx(points.points[0].FAR.high, rel=0.5)


def test_footage_without_pairs_is_refused() -> None:
    given_, sightings, _ = footage(0)
    apart = dataclasses.replace(sightings, moments=np.arange(360.0))
    with pytest.raises(CalibrationError, match="no moment of a camera shows two people"):
        calibrate_unlabelled(given_, apart)
    lone = dataclasses.replace(sightings, tracks=np.full(360, -1))
    with pytest.raises(CalibrationError, match="no track has two crops"):
        calibrate_unlabelled(given_, lone)
    with pytest.raises(
        CalibrationError, match=r"0\.0001: .* give 0\.054 false .*about 33,334 would"
    ):
        calibrate_unlabelled(given_, sightings, rates=[1e-4], settings=QUICK)
    few, seen, _ = footage(0, groups=4)
    with pytest.raises(CalibrationError, match="16 tracks are fewer than 20"):
        calibrate_unlabelled(few, seen, rates=[0.3], settings=QUICK)


# The CSV file


def test_sightings_are_read_by_name(tmp_path: Path) -> None:
    file = tmp_path / "sightings.csv"
    file.write_text(
        "track,quality, time ,camera,path\n"
        "7,0.5,2026-03-01T12:00:00,north,a/1.jpg\n"
        "\n"
        f"7,0.5,2026-03-01T12:00:01+00:00,south,{tmp_path}/a/2.jpg\n"
        ",x,12.5,north,./a/../3.jpg\n",
        encoding="utf-8-sig",
    )
    sightings = read_sightings(file)
    assert sightings.paths.tolist() == [
        str(tmp_path / "a" / "1.jpg"),
        str(tmp_path / "a" / "2.jpg"),
        str(tmp_path / "3.jpg"),
    ]
    assert sightings.cameras.tolist() == [0, 1, 0]
    # One track's name at two cameras is two tracks; without a name it is none.
    assert sightings.tracks.tolist() == [0, 1, -1]
    assert sightings.moments[1] - sightings.moments[0] == 1
    assert sightings.moments[2] == 12.5


def test_frames_go_before_times(tmp_path: Path) -> None:
    file = tmp_path / "sightings.csv"
    file.write_text("time,frame,path,camera,track\n0.5,12,a,1,1\n0.5,13,b,1,2\n")
    assert read_sightings(file).moments.tolist() == [12, 13]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,camera,track\na,1,1\n", "lacks the columns frame or time: .* names path, camera"),
        ("", "lacks the columns path, camera, track, frame or time: .* names nothing"),
        ("path,camera,track,frame\n", "no rows under its header"),
        ("path,camera,track,frame\na,1,1\n", "line 2: 3 fields, expected at least 4"),
        ("path,camera,track,frame\n,1,1,5\n", "line 2: the path is empty"),
        ("path,camera,track,frame\na,1,1,5\nb, ,1,5\n", "line 3: the camera is empty"),
        ("path,camera,track,frame\na,1,1,1.5\n", "frame is '1.5', expected a whole number"),
        ("path,camera,track,time\na,1,1,noon\n", "time is 'noon', expected seconds, or a date"),
        ("path,camera,track,time\na,1,1,nan\n", "time is 'nan'"),
        ("path,camera,track,frame\na,1,1,5\na,1,1,6\n", "line 3: .*a came before, in line 2"),
        ('path,camera,track,frame\n"a,1,1,5\n', "not a CSV file in UTF-8"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "sightings.csv"
    file.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_sightings(file)


def test_a_missing_file_and_a_latin_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist: give a CSV file with the columns"):
        read_sightings(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"path,camera,track,frame\n\xe9,1,1,1\n")
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        read_sightings(tmp_path / "latin.csv")


def test_columns_of_another_length_and_pictures_twice_are_refused() -> None:
    _, sightings, _ = footage(0)
    with pytest.raises(ShapeError, match="tracks has shape"):
        dataclasses.replace(sightings, tracks=sightings.tracks[1:])
    twice = sightings.paths.copy()
    twice[1] = twice[0]
    with pytest.raises(ShapeError, match=r"twice: crops/0\.jpg in the rows 0 and 1"):
        dataclasses.replace(sightings, paths=twice)
    with pytest.raises(ShapeError, match=r"NaN or infinity in 360 rows, first in row 0 \(crops"):
        dataclasses.replace(sightings, moments=np.full(360, np.nan))
