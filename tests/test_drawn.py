"""Drawn pedestrians: the layout, the pixels' determinism, and how hard they are to tell apart."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets.drawn import DrawnCounts, _plan, _writer, draw_crops, draw_dataset
from reidkit.datasets.drawn._bodies import HEAD, Point, Pose, View, make_body
from reidkit.datasets.drawn._cameras import develop, make_camera, make_scene, soften
from reidkit.datasets.drawn._figures import materials_of, shapes_of
from reidkit.datasets.drawn._occluders import OCCLUDERS, occluder_shapes
from reidkit.datasets.drawn._outlines import MATERIALS, Figure
from reidkit.datasets.drawn._people import PATTERNS, chance, make_look
from reidkit.datasets.drawn._pictures import TEST, TRAIN, Shot, draw_picture
from reidkit.datasets.drawn._raster import (
    SUPERSAMPLING,
    Pattern,
    Shape,
    box,
    capsule,
    colours_of,
    compose,
    cosine,
    ellipse,
    fill,
    material_number,
    pattern_mask,
    polygon,
    sine,
)
from reidkit.datasets.drawn._scenes import SCENE_HEIGHT, SCENE_WIDTH, SCENES, draw_scene
from reidkit.errors import ArgumentError

NAME = re.compile(r"(-1|\d{4,})_c(\d+)s1_(\d{6,})_01\.jpg")
SUBJECTS = ("person", "background", "half", "pair")
FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


PICTURES_SHA256 = "92ffee7eb0db6f02f4506ec83eaf614b24f24da3c991b88630ed60601a25c619"
CROPS_SHA256 = "9994698d918597df26489a34513de38faae1ed3ece5e0195c9d382db3c47dd9d"
"""Literals: whoever changes the pixels raises `_writer.VERSION` and these together."""


class Photograph(NamedTuple):
    path: Path
    person: int
    camera: int


class Split(NamedTuple):
    pictures: NDArray[np.float64]
    persons: NDArray[np.int64]
    cameras: NDArray[np.int64]


def photographs(folder: Path) -> list[Photograph]:
    found = []
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        assert match is not None, path.name
        found.append(Photograph(path, int(match[1]), int(match[2])))
    return found


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def pixels_sha256(pictures: list[NDArray[np.uint8]]) -> str:
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(picture.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DrawnCounts]:
    root = tmp_path_factory.mktemp("drawn") / "small"
    return root, draw_dataset(root, people=3, cameras=4, seed=5, workers=1)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Split, Split]:
    """The query and the gallery of the 100 test people of seed 0; nobody is trained here."""
    root = tmp_path_factory.mktemp("drawn") / "hundred"
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    jobs, counts = _plan.plan_jobs(100, 6, 0)
    chunks = list(_writer._write_all(root, 0, jobs[counts.train :], 2))
    assert sum(chunks) == len(jobs) - counts.train
    return load_split(root / "query"), load_split(root / "bounding_box_test")


# The layout


def test_the_counts_are_those_of_the_files(small: tuple[Path, DrawnCounts]) -> None:
    root, counts = small
    train, query, test = (photographs(root / name) for name in FOLDERS)
    people = Counter(min(photograph.person, 1) for photograph in test)
    assert (counts.train, counts.query) == (len(train), len(query))
    assert (counts.gallery, counts.junk, counts.distractors) == (people[1], people[-1], people[0])
    assert {path.name for path in root.iterdir()} == {*FOLDERS, "drawn.json"}


def test_the_recipe_is_kept_in_the_root(small: tuple[Path, DrawnCounts]) -> None:
    root, counts = small
    recipe = json.loads((root / "drawn.json").read_text())
    assert recipe["version"] == 1
    assert (recipe["people"], recipe["cameras"], recipe["seed"]) == (3, 4, 5)
    assert DrawnCounts(**recipe["counts"]) == counts


def test_every_file_is_a_crop_of_its_cameras_size(small: tuple[Path, DrawnCounts]) -> None:
    for name in FOLDERS:
        for path, _, camera in photographs(small[0] / name):
            with Image.open(path) as picture:
                picture.load()
                assert (picture.format, picture.mode) == ("JPEG", "RGB")
                if make_camera(5, camera).size is not None:
                    assert picture.size == (64, 128)
                else:
                    assert 48 <= picture.width <= 80
                    assert 128 <= picture.height <= 176


@settings(max_examples=25, deadline=None)
@given(people=st.integers(1, 40), cameras=st.integers(2, 99), seed=st.integers(0, 2**32 - 1))
def test_a_plan_keeps_the_rules_of_the_protocol(people: int, cameras: int, seed: int) -> None:
    jobs, counts = _plan.plan_jobs(people, cameras, seed)
    paths = [job.path for job in jobs]
    assert len(set(paths)) == len(paths)
    seen: dict[str, Counter[tuple[int, int]]] = {name: Counter() for name in FOLDERS}
    for path, shot in jobs:
        folder, name = path.split("/")
        match = NAME.fullmatch(name)
        assert match is not None
        assert int(match[2]) == shot.camera
        assert 1 <= shot.camera <= cameras
        seen[folder][int(match[1]), shot.camera] += 1
    train, query, test = (seen[name] for name in FOLDERS)
    assert {person for person, _ in train} == set(range(1, people + 1))
    assert {person for person, _ in query} == set(range(people + 1, 2 * people + 1))
    assert set(train.values()) <= set(range(4, 9))
    assert set(query.values()) == {1}
    gallery = {key: count for key, count in test.items() if key[0] > 0}
    assert gallery.keys() == query.keys()
    assert set(gallery.values()) <= {2, 3, 4}
    for split in (train, query):
        appearances = Counter(person for person, _ in split)
        assert all(2 <= count <= min(6, cameras) for count in appearances.values())
    assert counts.junk == math.ceil(counts.gallery * 10 / 100)
    assert counts.distractors == math.ceil(counts.gallery * 15 / 100)


def test_no_two_splits_show_the_same_person() -> None:
    jobs, _ = _plan.plan_jobs(20, 6, 1)
    groups: dict[str, set[tuple[int, int]]] = {}
    for path, shot in jobs:
        name = path.split("/")[1]
        role = name[:2] if name.startswith(("-1", "0000")) else path.split("/")[0]
        groups.setdefault(role, set()).add((shot.group, shot.person))
    assert groups["query"] == groups["bounding_box_test"]
    apart = [groups[role] for role in ("query", "bounding_box_train", "-1", "00")]
    assert all(not (a & b) for a, b in itertools.combinations(apart, 2))
    assert make_look(1, TEST, 7) != make_look(1, TRAIN, 7)


def test_all_shots_differ() -> None:
    jobs, _ = _plan.plan_jobs(30, 6, 2)
    assert len({job.shot for job in jobs}) == len(jobs)


# The folder appears whole or not at all


def test_an_existing_folder_is_refused(small: tuple[Path, DrawnCounts], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="exists already"):
        draw_dataset(small[0], people=1)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ArgumentError, match="other things in it"):
        draw_dataset(tmp_path, people=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"people": 0}, "people is 0, expected 1 to"),
        ({"people": 100_001}, "people is 100001"),
        ({"cameras": 1}, "cameras is 1, expected 2 to 99"),
        ({"cameras": 100}, "cameras is 100"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        draw_dataset(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("workers", "error"), [(1, RuntimeError("disk on fire")), (2, KeyboardInterrupt)]
)
def test_an_interruption_leaves_nothing(
    tmp_path: Path, workers: int, error: BaseException | type[BaseException]
) -> None:
    def interrupt(done: int, total: int) -> None:
        assert 0 < done < total
        raise error

    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        draw_dataset(tmp_path / "out", people=4, workers=workers, progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_an_error_in_another_process_reaches_the_caller(tmp_path: Path) -> None:
    jobs = [_plan.Job("no such folder/a.jpg", Shot(TEST, 1, 1, 0))] * 40
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list(_writer._write_all(tmp_path, 0, jobs, 2))


def test_processes_that_die_are_explained(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from reidkit.datasets.drawn import draw_dataset\n"
        f"draw_dataset({str(tmp_path / 'out')!r}, people=4, workers=2)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "ArgumentError: the 2 drawing processes ended early" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


@contextmanager
def drawing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Draw with two processes in a process group of its own; each part done prints their ids."""
    script = folder / "script.py"
    script.write_text(
        "import multiprocessing\n"
        "from reidkit.datasets.drawn import draw_dataset\n"
        "def show(done, total):\n"
        "    print(*(p.pid for p in multiprocessing.active_children()), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        f"        draw_dataset({str(folder / 'out')!r}, people=200, workers=2, progress=show)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', flush=True)\n"
    )
    pipe = subprocess.PIPE
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as run:
        try:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
            yield run
        finally:
            with suppress(ProcessLookupError):  # the group ended, as it should
                os.killpg(run.pid, signal.SIGKILL)


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    # Whoever adopts an orphan may be slow to take note of its end.
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    with drawing(tmp_path) as run:
        assert run.stdout is not None
        workers = [int(word) for word in run.stdout.readline().split()]
        assert len(workers) == 2
        assert all(map(is_running, workers))
        run.kill()
        deadline = time.monotonic() + 20
        while any(map(is_running, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(is_running, workers))
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no process groups")
@pytest.mark.parametrize("milliseconds", [0, 60, 150, 300, 600, 1500])
def test_ctrl_c_at_any_moment_is_quiet(tmp_path: Path, milliseconds: int) -> None:
    with drawing(tmp_path) as run:
        time.sleep(milliseconds / 1000)
        os.killpg(run.pid, signal.SIGINT)
        output, errors = run.communicate(timeout=20)
    assert (run.returncode, errors) == (0, "")
    assert output.splitlines()[-1] == "interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def signal_state() -> tuple[object, object]:
    return signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.skipif(sys.platform == "win32", reason="has no signal masks")
@pytest.mark.parametrize("to_thread", [True, False])
def test_interrupts_are_held_and_then_delivered(to_thread: bool) -> None:
    before = signal_state()
    finished = threading.Event()
    # A thread that does not hold signals back takes those that are sent to the whole process.
    other = threading.Thread(target=finished.wait)
    other.start()
    reached = False

    def interrupt() -> None:
        nonlocal reached
        with _writer._interrupts_held():
            if to_thread:
                signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            else:
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            reached = True

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    finally:
        finished.set()
        other.join()
    assert reached
    assert signal_state() == before


@pytest.mark.skipif(sys.platform == "win32", reason="has no signal masks")
def test_nothing_changes_when_nothing_comes() -> None:
    before = signal_state()
    seen = []

    def hold() -> None:
        with _writer._interrupts_held():
            seen.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    hold()
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [True, True]
    assert signal_state() == before


@pytest.mark.skipif(sys.platform == "win32", reason="has no signal masks")
def test_an_error_while_interrupts_are_held_is_not_lost() -> None:
    before = signal_state()
    with pytest.raises(OSError, match="no processes left"), _writer._interrupts_held():
        raise OSError("no processes left")
    assert signal_state() == before


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    counts = draw_dataset(
        tmp_path / "out", people=2, workers=1, progress=lambda *call: calls.append(call)
    )
    total = counts.train + counts.query + counts.gallery + counts.junk + counts.distractors
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


# The same pixels everywhere


def test_the_pixels_are_those_of_every_other_machine() -> None:
    shots = [
        Shot(group, person, camera, number, subject)
        for group, person, number in ((TEST, 101, 0), (TRAIN, 1, 3))
        for camera in range(1, 9)
        for subject in SUBJECTS
    ]
    assert pixels_sha256([draw_picture(0, shot) for shot in shots]) == PICTURES_SHA256


def test_reference_crops_are_those_of_every_other_machine() -> None:
    crops = draw_crops(12, height=256, width=128, seed=0)
    assert pixels_sha256([crops]) == CROPS_SHA256


def test_the_number_of_workers_changes_nothing(
    small: tuple[Path, DrawnCounts], tmp_path: Path
) -> None:
    assert draw_dataset(tmp_path / "out", people=3, cameras=4, seed=5, workers=2) == small[1]
    assert files_of(tmp_path / "out") == files_of(small[0])


def test_threads_change_nothing() -> None:
    shots = [Shot(TEST, person, 1, 0) for person in range(8)]
    alone = [draw_picture(3, shot).tobytes() for shot in shots]
    together: dict[int, bytes] = {}

    def draw(place: int) -> None:
        together[place] = draw_picture(3, shots[place]).tobytes()

    threads = [threading.Thread(target=draw, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[place] for place in range(8)] == alone


def test_another_seed_gives_other_people_cameras_and_streets() -> None:
    assert make_look(0, TEST, 1) != make_look(1, TEST, 1)
    assert make_camera(0, 1) != make_camera(1, 1)
    assert not np.array_equal(make_scene(0, 1), make_scene(5, 1))
    first, second = (draw_crops(2, height=64, width=32, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(0, 3), height=st.integers(16, 200), width=st.integers(16, 200))
def test_crops_have_exactly_the_size_asked_for(count: int, height: int, width: int) -> None:
    crops = draw_crops(count, height=height, width=width, seed=2)
    assert crops.shape == (count, height, width, 3)
    assert crops.dtype == np.uint8


def test_a_crop_does_not_depend_on_how_many_are_drawn() -> None:
    few = draw_crops(3, height=128, width=64, seed=4)
    many = draw_crops(9, height=128, width=64, seed=4)
    np.testing.assert_array_equal(many[:3], few)
    assert len({crop.tobytes() for crop in many}) == 9


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": -1, "height": 64, "width": 32, "seed": 0},
        {"count": 1, "height": 15, "width": 32, "seed": 0},
        {"count": 1, "height": 64, "width": 1025, "seed": 0},
        {"count": 1, "height": 64, "width": 32, "seed": -1},
    ],
)
def test_wrong_crops_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ArgumentError, match="expected"):
        draw_crops(
            arguments["count"],
            height=arguments["height"],
            width=arguments["width"],
            seed=arguments["seed"],
        )


# How hard it is


def load_split(folder: Path) -> Split:
    """Give pictures at 48 x 24, person ids and camera ids."""
    found = photographs(folder)
    pictures = []
    for photograph in found:
        with Image.open(photograph.path) as picture:
            pictures.append(np.asarray(picture.resize((24, 48), Image.Resampling.BOX), np.float64))
    ids = np.array([(person, camera) for _, person, camera in found])
    return Split(np.stack(pictures), ids[:, 0], ids[:, 1])


def rank_one(hundred: tuple[Split, Split], feature: str) -> float:
    """Score naively: the nearest picture that is neither junk nor the query's person and camera."""
    pictures, persons, cameras = (np.concatenate(pair) for pair in zip(*hundred, strict=True))
    vectors = FEATURES[feature](pictures, cameras)
    queries = len(hundred[0].persons)
    hits = []
    for row in range(queries):
        same = persons[queries:] == persons[row]
        kept = (persons[queries:] != -1) & ~(same & (cameras[queries:] == cameras[row]))
        distances = ((vectors[queries:] - vectors[row]) ** 2).sum(axis=1)
        hits.append(same[np.where(kept, distances, np.inf).argmin()])
    return float(np.mean(hits))


def mean_colour(pictures: NDArray[np.float64], cameras: NDArray[np.int64]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = pictures.mean(axis=(1, 2))
    return means


def stripe_histogram(
    pictures: NDArray[np.float64], cameras: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give histograms of six stripes of the middle, each camera's colours normalised."""
    levels = np.empty(pictures.shape, np.int64)
    for camera in np.unique(cameras):
        own = pictures[cameras == camera]
        spread = own.std(axis=(0, 1, 2))
        normal = (own - own.mean(axis=(0, 1, 2))) / spread
        levels[cameras == camera] = ((normal + 2) * 2).clip(0, 7)
    stripes = levels[:, :, 6:18].reshape(len(pictures), 6, -1, 3)
    shares = np.stack([(stripes == level).mean(axis=2) for level in range(8)], axis=2)
    result: NDArray[np.float64] = np.sqrt(shares).reshape(len(pictures), -1)
    return result


FEATURES = {"mean": mean_colour, "histogram": stripe_histogram}


def test_mean_colour_says_something_and_far_from_everything(hundred: tuple[Split, Split]) -> None:
    assert 0.10 < rank_one(hundred, "mean") < 0.50


def test_looks_say_much_more_than_mean_colour(hundred: tuple[Split, Split]) -> None:
    assert rank_one(hundred, "histogram") > rank_one(hundred, "mean") + 0.2


def test_a_person_keeps_the_look_from_camera_to_camera() -> None:
    """Seen by one and the same camera, two pictures of a person differ less than two people."""
    means = np.array(
        [
            [draw_picture(0, Shot(TEST, person, 1, n)).mean(axis=(0, 1)) for n in range(6)]
            for person in range(20)
        ]
    )
    within = means.std(axis=1).mean()
    assert means.mean(axis=1).std(axis=0).mean() > 2 * within


# People


def test_the_same_key_gives_the_same_look_and_others_another() -> None:
    looks = [make_look(0, TEST, person) for person in range(200)]
    make_look.cache_clear()
    assert looks == [make_look(0, TEST, person) for person in range(200)]
    assert len(set(looks)) == 200
    assert {look.upper_pattern for look in looks} == set(PATTERNS)
    assert {look.bag for look in looks} == {"none", "backpack", "shoulder", "tote"}


def test_patterns_can_be_seen() -> None:
    for person in range(200):
        first, second = make_look(0, TEST, person).upper_colours
        assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) > 150


@settings(max_examples=60, deadline=None)
@given(
    person=st.integers(0, 300),
    turn=st.integers(-360, 720),
    phase=st.integers(0, 359),
    stride=st.integers(2, 30),
)
def test_a_body_stands_on_the_ground_in_any_pose(
    person: int, turn: int, phase: int, stride: int
) -> None:
    look = make_look(0, TEST, person)
    body = make_body(look, Pose(turn, phase, stride, stride, 20, 20))
    assert min(leg.end.y for leg in body.legs.values()) == 48
    for leg in body.legs.values():
        for upper, lower, length in ((leg.root, leg.middle, 235), (leg.middle, leg.end, 235)):
            assert math.dist(upper, lower) == pytest.approx(length, abs=3)
    figure = Figure(look, body, View(64, 250, 230, turn, 10))
    canvas = np.zeros((256, 128), np.uint8)
    for shape in shapes_of(figure):
        fill(canvas, shape)
    rows = np.flatnonzero(canvas.any(axis=1))
    assert rows[0] < 60
    assert 240 < rows[-1] < 256
    assert 0.08 < (canvas > 0).mean() < 0.6
    assert canvas.max() < material_number(MATERIALS)


def test_eyes_are_seen_from_the_front_only() -> None:
    look = make_look(0, TEST, 0)
    body = make_body(look, Pose(0, 0, 10, 10, 20, 20))
    number = {
        turn: sum(
            shape.material == material_number(10)
            for shape in shapes_of(Figure(look, body, View(64, 250, 230, turn, 10)))
        )
        for turn in (0, 180)
    }
    assert number[0] == number[180] + 2


def test_a_view_projects_as_a_camera_would() -> None:
    level = View(100, 200, 1000, 0, 0)
    assert level.see(Point(0, 0, 0)) == (100, 200)
    assert level.see(Point(30, HEAD, 500)) == (130, 200 - HEAD)
    side = View(100, 200, 1000, 90, 0)
    assert side.see(Point(0, 0, 50)) == (150, 200)
    assert side.depth(Point(50, 0, 0)) == -50
    above = View(100, 200, 1000, 0, 30)
    assert above.see(Point(0, 0, 100))[1] > 200
    assert level.half_width(80, 40) == 80
    assert side.half_width(80, 40) == 40


def test_materials_come_in_the_order_of_their_places() -> None:
    look = make_look(0, TEST, 1)
    materials = materials_of(look)
    assert len(materials) == MATERIALS
    assert materials[0] == (look.skin, look.skin)
    assert materials[3] == look.upper_colours


# Cameras and streets


def test_cameras_differ_and_stay() -> None:
    cameras = [make_camera(0, camera) for camera in range(1, 100)]
    make_camera.cache_clear()
    assert cameras == [make_camera(0, camera) for camera in range(1, 100)]
    assert len(set(cameras)) == 99
    assert {camera.occluder for camera in cameras} == set(OCCLUDERS)
    assert {camera.size for camera in cameras} == {None, (64, 128)}


@pytest.mark.parametrize("kind", SCENES)
def test_a_scene_is_covered_and_has_contents(kind: str) -> None:
    scene = draw_scene(kind, chance(3))
    assert scene.shape == (SCENE_HEIGHT, SCENE_WIDTH, 3)
    assert len(np.unique(scene.reshape(-1, 3), axis=0)) > 8
    np.testing.assert_array_equal(scene, draw_scene(kind, chance(3)))


def test_a_scene_is_shared_and_cannot_be_drawn_on() -> None:
    assert make_scene(0, 1) is make_scene(0, 1)
    with pytest.raises(ValueError, match="read-only"):
        make_scene(0, 1)[0] = 0


def test_streets_share_their_mean_grey() -> None:
    means = [make_scene(0, camera)[80:240].mean(axis=(0, 1)) for camera in range(1, 7)]
    np.testing.assert_allclose(means, 118, atol=2)


NEUTRAL = dataclasses.replace(
    make_camera(0, 1),
    light=0,
    cast=(0, 0, 0),
    contrast=100,
    saturation=100,
    bend=0,
    falloff=0,
    blur=0,
    noise=0,
)
GRADIENT = np.stack(np.broadcast_arrays(*np.ogrid[40:200:5, 30:190:10], 100), axis=2).astype(
    np.uint8
)


def developed(picture: NDArray[np.uint8], **changes: object) -> NDArray[np.int64]:
    camera = dataclasses.replace(NEUTRAL, **changes)  # type: ignore[arg-type]
    return develop(picture, camera, chance(1)).astype(np.int64)


def test_a_neutral_camera_changes_no_more_than_the_light_of_the_moment() -> None:
    difference = developed(GRADIENT) - GRADIENT
    assert len(np.unique(difference)) == 1
    assert abs(difference[0, 0, 0]) <= 1


def test_contrast_spreads_around_the_middle_grey() -> None:
    assert developed(GRADIENT, contrast=80).std() < 0.85 * developed(GRADIENT).std()
    grey = np.full((4, 4, 3), 118, np.uint8)
    np.testing.assert_array_equal(developed(grey, contrast=80), developed(grey))


def test_saturation_nought_is_grey() -> None:
    picture = developed(GRADIENT, saturation=0)
    np.testing.assert_array_equal(picture[:, :, 0], picture[:, :, 1])
    np.testing.assert_array_equal(picture[:, :, 0], picture[:, :, 2])


def test_a_cast_tints_dark_and_bright_in_opposite_colours() -> None:
    dark, bright = np.full((2, 2, 3), 30, np.uint8), np.full((2, 2, 3), 200, np.uint8)
    warm = (10, 0, -10)
    assert developed(bright, cast=warm)[0, 0, 0] > developed(bright, cast=warm)[0, 0, 2]
    assert developed(dark, cast=warm)[0, 0, 0] < developed(dark, cast=warm)[0, 0, 2]


def test_bend_keeps_black_middle_and_white() -> None:
    levels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    straight, bent = developed(levels), developed(levels, bend=15)
    for level in (0, 118, 255):
        assert abs(bent[level, 0, 0] - straight[level, 0, 0]) <= 1
    assert (np.diff(bent[:, 0, 0]) >= 0).all()
    assert (bent[180, 0] > straight[180, 0]).all()


def test_falloff_gives_light_from_one_edge_to_the_other() -> None:
    flat = np.full((4, 20, 3), 118, np.uint8)
    rising = developed(flat, falloff=30)[0, :, 0]
    falling = developed(flat, falloff=-30)[0, :, 0]
    assert (np.diff(rising) >= 0).all()
    assert rising[-1] > rising[0] + 20
    assert falling[0] > falling[-1] + 20


def test_noise_is_of_its_strength_and_centred() -> None:
    flat = np.full((64, 64, 3), 118, np.uint8)
    difference = developed(flat, noise=12) - developed(flat)
    assert np.abs(difference).max() <= 12
    assert 5 < difference.std() < 8
    assert abs(difference.mean() + 0.5) < 0.3


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_soften_is_the_naive_blur(seed: int, height: int, width: int, passes: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.int32)
    expected = values.copy()
    for _ in range(passes):
        for axis in (0, 1):
            before = expected.copy()
            for place in np.ndindex(before.shape):
                last = before.shape[axis] - 1
                around = [list(place), list(place)]
                around[0][axis] = max(0, place[axis] - 1)
                around[1][axis] = min(last, place[axis] + 1)
                total = 2 * before[place] + sum(before[tuple(side)] for side in around)
                expected[place] = (total + 2) // 4
    np.testing.assert_array_equal(soften(values, passes), expected)


@pytest.mark.parametrize("kind", OCCLUDERS)
def test_an_occluder_hides_something_and_not_all(kind: str) -> None:
    shares = []
    for number in range(20):
        canvas = np.zeros((256, 128), np.uint8)
        shapes, materials = occluder_shapes(kind, chance(number), canvas.shape, 22)
        for shape in shapes:
            fill(canvas, shape)
        assert canvas.max() < material_number(22 + len(materials))
        assert not canvas.any() or canvas[canvas > 0].min() >= material_number(22)
        shares.append((canvas > 0).mean())
    assert 0.005 < np.mean(shares) < 0.5
    assert max(shares) < 0.7


# Subjects


def covered(shot: Shot) -> float:
    """Give how far a shot is from the same camera's empty street, in grey levels."""
    picture = draw_picture(0, shot, (64, 128)).astype(np.float64)
    return float(np.abs(picture - picture.mean(axis=(0, 1))).mean())


def test_a_background_is_emptier_than_a_person() -> None:
    shots = [Shot(TEST, person, 1 + person % 6, 0) for person in range(30)]
    empty = [shot._replace(subject="background") for shot in shots]
    assert np.mean([covered(shot) for shot in empty]) < 0.7 * np.mean(
        [covered(shot) for shot in shots]
    )


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("size", [(16, 16), (64, 128), (300, 90)])
def test_every_subject_fits_every_size(subject: str, size: tuple[int, int]) -> None:
    for camera in range(1, 7):
        picture = draw_picture(1, Shot(TEST, 1, camera, 0, subject), size)
        assert picture.shape == (size[1], size[0], 3)


def test_the_pictures_of_a_track_differ_in_pose_and_place() -> None:
    pictures = [draw_picture(0, Shot(TEST, 1, 1, number), (64, 128)) for number in range(5)]
    assert len({picture.tobytes() for picture in pictures}) == 5


# Filling polygons


def inside(points: NDArray[np.int32], x: int, y: int) -> bool:
    """Say by the even-odd rule, in fractions, whether the middle of a row's cell is inside."""
    row = Fraction(2 * y + 1, 2)
    crossings = []
    for (x0, y0), (x1, y1) in zip(points.tolist(), np.roll(points, -1, 0).tolist(), strict=True):
        if (row > y0) != (row > y1):
            crossings.append(math.floor(x0 + (x1 - x0) * (row - y0) / (y1 - y0)))
    return bool(crossings) and min(crossings) <= x < max(crossings)


corners = st.tuples(st.integers(-30, 70), st.integers(-30, 70))


@settings(max_examples=30, deadline=None)
@given(st.lists(corners, min_size=3, max_size=3))
def test_a_triangle_is_filled_as_the_definition_says(points: list[tuple[int, int]]) -> None:
    canvas = np.zeros((40, 36), np.uint8)
    outline = polygon(points)
    fill(canvas, Shape(outline, 8, 0))
    expected = [[8 * inside(outline, x, y) for x in range(36)] for y in range(40)]
    np.testing.assert_array_equal(canvas, expected)


@settings(max_examples=60, deadline=None)
@given(
    start=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(4, 12)),
    end=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(4, 12)),
)
def test_a_capsule_is_all_within_reach_of_its_axis(
    start: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    canvas = np.zeros((100, 100), np.uint8)
    shift = np.array((20, 20))
    fill(canvas, Shape(capsule(start, end) + shift, 4, 0))
    a, b = np.array(start[:2]) + shift, np.array(end[:2]) + shift
    rows, columns = np.indices(canvas.shape)
    cells = np.stack((columns, rows), axis=2) + 0.5
    along = ((cells - a) @ (b - a)) / max(1, (b - a) @ (b - a))
    nearest = a + along.clip(0, 1)[:, :, None] * (b - a)
    distance = np.linalg.norm(cells - nearest, axis=2)
    filled = canvas > 0
    assert not filled[distance > max(start[2], end[2]) + 2].any()
    assert filled[distance < min(start[2], end[2]) * 0.85 - 2].all()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(4, 30), st.integers(4, 30))
def test_an_ellipse_has_its_area(x: int, y: int, half_width: int, half_height: int) -> None:
    canvas = np.zeros((120, 120), np.uint8)
    fill(canvas, Shape(ellipse(x + 35, y + 35, half_width, half_height), 4, 0))
    area = math.pi * half_width * half_height
    assert (canvas > 0).sum() == pytest.approx(area, rel=0.1, abs=1.5 * (half_width + half_height))


def test_a_box_is_filled_exactly_and_cut_at_the_edges() -> None:
    canvas = np.zeros((6, 8), np.uint8)
    fill(canvas, Shape(box(5, -3, 20, 2), 4, 0))
    expected = np.zeros((6, 8), np.uint8)
    expected[:2, 5:] = 4
    np.testing.assert_array_equal(canvas, expected)
    for outside in (box(-9, 0, 0, 6), box(8, 0, 12, 6), box(0, -5, 8, 0), box(0, 6, 8, 9)):
        fill(canvas, Shape(outside, 8, 0))
    fill(canvas, Shape(box(0, 3, 8, 3), 8, 0))
    np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize(
    ("shade", "row"),
    [
        (0, [4] * 10),
        (30, [4] * 7 + [5] * 3),
        (-30, [5] * 3 + [4] * 7),
        (100, [5] * 10),
    ],
)
def test_shade_takes_its_share_of_its_side(shade: int, row: list[int]) -> None:
    canvas = np.zeros((1, 10), np.uint8)
    fill(canvas, Shape(box(0, 0, 10, 1), 4, shade))
    assert canvas[0].tolist() == row


PICTURED = {
    "stripes": ["######", "######", "......", "......"],
    "pinstripes": ["..##..", "..##..", "..##..", "..##.."],
    "checks": ["##..##", "##..##", "..##..", "..##.."],
    "halves": [".#####", ".#####", ".#####", ".#####"],
    "diagonal": ["##....", "#....#", "....##", "...###"],
    "yoke": ["######", "######", "######", "######"],
    "band": ["......", "......", "......", "......"],
}


@pytest.mark.parametrize("kind", PICTURED)
def test_a_pattern_looks_as_its_name_says(kind: str) -> None:
    rows, columns = np.arange(4, dtype=np.int32)[:, None], np.arange(6, dtype=np.int32)
    mask = np.broadcast_to(pattern_mask(Pattern(kind, 4, 0, 0), rows, columns), (4, 6))
    lines = ["".join(".#"[int(cell)] for cell in row) for row in mask]
    assert lines == PICTURED[kind]


@pytest.mark.parametrize("kind", [kind for kind in dict.fromkeys(PATTERNS) if kind != "plain"])
@pytest.mark.parametrize("pitch", [1, 2, 7, 20])
def test_a_pattern_moves_with_its_person(kind: str, pitch: int) -> None:
    rows, columns = np.arange(200, dtype=np.int32)[:, None], np.arange(60, dtype=np.int32)
    here = pattern_mask(Pattern(kind, pitch, 11, 5), rows, columns)
    there = pattern_mask(Pattern(kind, pitch, 11 + 31, 5 + 17), rows + 17, columns + 31)
    np.testing.assert_array_equal(here, there)
    if pitch > 2:
        assert 0.05 < np.broadcast_to(here, (200, 60)).mean() < 0.9


def test_a_pattern_shows_the_second_colour_in_light_and_shade() -> None:
    canvas = np.zeros((2, 8), np.uint8)
    fill(canvas, Shape(box(0, 0, 8, 2), 4, 50, Pattern("stripes", 2, 0, 0)))
    assert canvas.tolist() == [[6] * 4 + [7] * 4, [4] * 4 + [5] * 4]


@pytest.mark.parametrize("degrees", range(-720, 721, 15))
def test_sines_are_nearly_sines(degrees: int) -> None:
    assert sine(degrees) == pytest.approx(1024 * math.sin(math.radians(degrees)), abs=3)
    assert cosine(degrees) == pytest.approx(1024 * math.cos(math.radians(degrees)), abs=3)


@given(st.integers(-1000, 1000))
def test_sines_are_symmetrical(degrees: int) -> None:
    assert sine(degrees) == -sine(-degrees) == sine(180 - degrees) == sine(degrees + 360)
    assert cosine(degrees) == cosine(-degrees)


def test_colours_are_bright_then_shaded() -> None:
    table = colours_of([((100, 200, 50), (10, 20, 30))], shade=50)
    assert table.shape == (256, 3)
    start = material_number(0)
    assert table[start : start + 4].tolist() == [
        [100, 200, 50],
        [50, 100, 25],
        [10, 20, 30],
        [5, 10, 15],
    ]
    assert not table[:start].any()
    assert not table[start + 4 :].any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_compose_averages_samples_over_the_background(seed: int, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    canvas = random.choice(
        np.array([0, 4, 5, 6, 7, 8, 255], np.uint8), (height * SUPERSAMPLING, width * SUPERSAMPLING)
    )
    colours = random.integers(0, 256, (256, 3), dtype=np.uint8)
    colours[:4] = 0
    background = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = np.empty_like(background)
    for y, x in np.ndindex(height, width):
        block = canvas[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        samples = [colours[n] if n else background[y, x] for n in block]
        expected[y, x] = np.sum(samples, axis=0) // 4
    np.testing.assert_array_equal(compose(canvas, colours, background), expected)
