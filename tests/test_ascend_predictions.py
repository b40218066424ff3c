"""Vectors in files -> scores: the reference's figures, counted from the files themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import scoring
from reidkit.ascend.bins import BinSpec, cut_name, find_pictures, write_bins
from reidkit.ascend.predictions import Predictions, read_predictions, score_predictions
from reidkit.cli.ascend.postprocess import command
from reidkit.errors import AscendError, DatasetError, MismatchError, ReidkitError
from reidkit.records import Embeddings, Samples
from tests.pictures import SMALL, write_picture

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"
Vectors = NDArray[np.float32]


class Files:
    """Pictures' folders and a folder of predictions, made by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.query, self.gallery, self.folder = root / "query", root / "gallery", root / "out/bs1"
        for folder in (self.query, self.gallery, self.folder):
            folder.mkdir(parents=True)

    def add(self, folder: Path, name: str, vector: Iterable[float] | None = None) -> None:
        """Add a picture, whose content nobody looks at, and its prediction."""
        (folder / name).write_text(str(folder / name))
        if vector is not None:
            self.predict(name, vector)

    def predict(self, name: str, vector: Iterable[float], ending: str = "_0.bin") -> None:
        np.array(vector, np.float32).tofile(self.folder / f"{cut_name(name)}{ending}")

    def read(self, **options: str) -> Predictions:
        suffix = options.get("suffix")
        return read_predictions(self.query, self.gallery, self.folder, suffix=suffix)

    def run(self, *arguments: str) -> Result:
        folders = {"query": self.query, "gallery": self.gallery, "pred": self.folder}
        options = [f"--{name}_dir={folder}" for name, folder in folders.items()]
        return CliRunner().invoke(command, [*options, *arguments])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def simple(files: Files) -> Files:
    """Give two queries: the first is answered at place 1, the second at place 2."""
    files.add(files.query, "0001_c1s1_0.jpg", [1, 0, 0])
    files.add(files.query, "0002_c1s1_0.jpg", [0, 1, 0])
    files.add(files.gallery, "0001_c2s1_1.jpg", [1, 0.1, 0])
    files.add(files.gallery, "0002_c2s1_1.jpg", [0, 1, 1])
    files.add(files.gallery, "0000_c3s1_1.jpg", [0, 1, 0.5])
    files.add(files.gallery, "-1_c2s1_1.jpg")  # junk needs no prediction
    write_summary(files)
    return files


def write_summary(files: Files, suffix: str = "_0.bin") -> None:
    """Write what the inference tool leaves beside the outputs, for those that are there."""
    made = sorted(path for path in files.folder.iterdir() if path.name.endswith(suffix))
    entries = {
        str(place): {"infiles": ["x"], "outfiles": [str(path)]} for place, path in enumerate(made)
    }
    text = json.dumps({"filesinfo": entries})
    (files.root / "out" / "bs1_summary.json").write_text(text)


def write_side(
    files: Files, folder: Path, vectors: Vectors, ids: Iterable[tuple[int, int]]
) -> None:
    """Write pictures and predictions; the row's number keeps the order among equal ids."""
    for row, (vector, (person, camera)) in enumerate(zip(vectors, ids, strict=True)):
        start = "-1" if person == -1 else f"{person:04}"
        name = f"{start}_c{camera}s1_{folder.name}{row:06}_00.jpg"
        files.add(folder, name, None if person == -1 else vector)


# The figures.


@pytest.mark.parametrize("case", ["clustered", "distractors_invalid", "cross_camera"])
def test_equals_the_reference_implementation_through_the_files(files: Files, case: str) -> None:
    """Among the cases: a query without a match, junk, and many cameras."""
    names = ("q", "g", "qp", "gp", "qc", "gc", "cmc", "mAP")
    with np.load(GOLDEN) as arrays:
        part = {name: arrays[f"{case}_{name}"] for name in names}
    write_side(files, files.query, part["q"], zip(part["qp"], part["qc"], strict=True))
    write_side(files, files.gallery, part["g"], zip(part["gp"], part["gc"], strict=True))
    scores = score_predictions(files.read())
    assert scores.mAP == pytest.approx(float(part["mAP"]), abs=1e-6)
    np.testing.assert_allclose(scores.cmc, part["cmc"], rtol=0, atol=1e-6)
    assert scores.queries + scores.dropped.total == len(part["q"])
    assert scores.gallery == np.count_nonzero(part["gp"] != -1)


def naive_average_precision(
    vector: Vectors, ids: tuple[int, int], gallery: Vectors, others: list[tuple[int, int]]
) -> float | None:
    """Rank one query by squared distance of unit vectors, as the reference words it."""
    unit = vector / np.linalg.norm(vector)
    units = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    distance = ((units - unit) ** 2).sum(axis=1)
    order = [row for row in np.argsort(distance, kind="stable") if others[row] != ids]
    hits = [place for place, row in enumerate(order, 1) if others[row][0] == ids[0]]
    if not hits:
        return None
    return sum(found / place for found, place in enumerate(hits, 1)) / len(hits)


@pytest.mark.parametrize("seed", [0, 1])
def test_ten_queries_are_scored_right(files: Files, seed: int) -> None:
    """No fixed number of queries; a gallery of fewer than the 50 places of the curve."""
    random = np.random.default_rng(seed)
    query, gallery = (random.standard_normal((n, 8)).astype(np.float32) for n in (10, 40))
    asked = [(int(p), int(c)) for p, c in random.integers(1, 5, (10, 2))]
    others = [(int(p), int(c)) for p, c in random.integers(1, 5, (40, 2))]
    write_side(files, files.query, query, asked)
    write_side(files, files.gallery, gallery, others)
    scores = score_predictions(files.read())
    each = [
        naive_average_precision(vector, ids, gallery, others)
        for vector, ids in zip(query, asked, strict=True)
    ]
    scored = [value for value in each if value is not None]
    assert scores.mAP == pytest.approx(float(np.mean(scored)), abs=1e-6)
    assert (scores.queries, scores.gallery, len(scores.cmc)) == (len(scored), 40, 40)


def test_ties_rank_in_the_natural_order_of_the_names(files: Files) -> None:
    files.add(files.query, "0005_c1s1_0.jpg", [1, 1])
    for person in (10, 5, 2):  # all vectors are equal: 2, 5, 10 is the order
        files.add(files.gallery, f"{person}_c2s1_1.jpg", [2, 2])
    scores = score_predictions(files.read())
    assert scores.mAP == pytest.approx(1 / 2)


def test_a_query_without_a_match_is_dropped_with_its_reason(simple: Files) -> None:
    simple.add(simple.query, "0007_c1s1_0.jpg", [1, 1, 1])  # nobody
    simple.add(simple.query, "0008_c1s1_0.jpg", [1, 1, 1])  # seen by its own camera only
    simple.add(simple.gallery, "0008_c1s1_1.jpg", [-1, -1, -1])
    simple.add(simple.query, "-1_c1s1_0.jpg")
    scores = score_predictions(simple.read())
    dropped = scores.dropped
    assert (dropped.person_absent, dropped.same_camera_only, dropped.junk) == (1, 1, 1)
    assert scores.queries == 2
    assert scores.mAP == pytest.approx(3 / 4)


def test_the_names_of_parent_folders_say_nothing(tmp_path: Path) -> None:
    files = Files(tmp_path / "run1_c3")
    files.add(files.query, "0001_c1s1_0.jpg", [1, 0])
    files.add(files.gallery, "0001_c2s1_1.jpg", [1, 0])
    predictions = files.read()
    assert predictions.query.samples.person_ids.tolist() == [1]
    assert predictions.query.samples.camera_ids.tolist() == [1]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_files_give_what_scoring_gives(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("files")
    files = Files(root)
    ids = st.tuples(st.integers(-1, 3), st.integers(1, 2))
    sides = []
    for folder in (files.query, files.gallery):
        people = sorted(data.draw(st.lists(ids, min_size=2, max_size=8)))
        seed = data.draw(st.integers(0, 99))
        vectors = np.random.default_rng(seed).standard_normal((len(people), 4)).astype(np.float32)
        write_side(files, folder, vectors, people)
        samples = Samples.from_columns([""] * len(people), *np.array(people).T)
        sides.append(Embeddings(vectors, samples))
    try:
        expected = scoring.evaluate(*sides)
    except ReidkitError as error:
        with pytest.raises((type(error), DatasetError)):
            score_predictions(files.read())
        return
    found = score_predictions(files.read())
    assert found.mAP == pytest.approx(expected.mAP, abs=1e-12)
    assert found.cmc.tolist() == expected.cmc.tolist()
    assert found.dropped.describe() == expected.dropped.describe()
    shutil.rmtree(root)


def test_prepared_and_predicted_files_are_known_by_one_name(files: Files) -> None:
    """What `preprocess` calls a picture is what is looked for here, `.jpg.jpg` included."""
    names = ("0001_c1s1_0.jpg", "0002_c1s1_0.jpg.jpg", "0003_c1s1_0.png", "0004_c1s1_0.JPEG")
    for seed, name in enumerate(names):
        write_picture(files.query / name, seed)
        files.add(files.gallery, name.replace("c1", "c2"), [1, 2])
    for name in write_bins(
        find_pictures([files.query]), files.root / "p", spec=BinSpec(SMALL)
    ).files:
        files.predict(name, [3, 4])
    assert files.read().query.vectors.tolist() == [[3, 4]] * 4


# Which files are meant.


@pytest.mark.parametrize("suffix", ["_0", "_1"])
def test_the_suffix_is_found(simple: Files, suffix: str) -> None:
    for path in list(simple.folder.iterdir()):
        path.rename(path.with_name(path.name.replace("_0.bin", f"{suffix}.bin")))
    predictions = simple.read()
    assert predictions.ending == f"{suffix}.bin"
    assert score_predictions(predictions).mAP == pytest.approx(3 / 4)


def test_two_suffixes_are_refused_until_one_is_named(simple: Files) -> None:
    for path in list(simple.folder.iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("_0.bin", "_1.bin")))
    simple.predict("0001_c1s1_0.jpg", [0, 1, 0.1], "_1.bin")
    with pytest.raises(AscendError, match=r"_0\.bin and _1\.bin .*--suffix _0\.bin"):
        simple.read()
    assert score_predictions(simple.read(suffix="_0")).mAP == pytest.approx(3 / 4)
    assert score_predictions(simple.read(suffix="_1")).mAP < 0.7
    assert simple.read(suffix="_1.bin").ending == "_1.bin"


def test_other_suffixes_can_be_named(simple: Files) -> None:
    for path in list(simple.folder.iterdir()):
        path.rename(path.with_name(path.name.replace("_0.bin", ".bin")))
    assert simple.read(suffix="").ending == ".bin"


WRITERS: dict[str, Callable[[Path, Vectors], None]] = {
    "_0.npy": lambda path, vector: np.save(path, vector[None]),
    "_0.txt": lambda path, vector: np.savetxt(path, vector[None], fmt="%f", delimiter=" "),
    "_0.bin": lambda path, vector: vector.tofile(path),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_output_format_of_the_tool_is_read(simple: Files, ending: str) -> None:
    expected = score_predictions(simple.read())
    for path in list(simple.folder.iterdir()):
        vector = np.fromfile(path, np.float32)
        path.unlink()
        WRITERS[ending](path.with_name(path.name.replace("_0.bin", ending)), vector)
    predictions = simple.read()
    assert predictions.ending == ending
    assert score_predictions(predictions).mAP == expected.mAP


def test_without_any_prediction_it_says_what_is_there(simple: Files) -> None:
    for path in list(simple.folder.iterdir()):
        path.rename(path.with_name(path.name.replace("_0.bin", ".out")))
    with pytest.raises(AscendError) as caught:
        simple.read()
    assert "none" not in str(caught.value)
    assert "no file for any of the 5 pictures" in str(caught.value)
    assert "0001_c1s1_0_0.bin" in str(caught.value)
    assert "0000_c3s1_1.out" in str(caught.value)


def test_the_folder_above_is_recognised(simple: Files) -> None:
    with pytest.raises(AscendError, match=f"did you mean {simple.folder}"):
        read_predictions(simple.query, simple.gallery, simple.folder.parent)


def test_only_pictures_are_asked_for(simple: Files) -> None:
    for name in ("Thumbs.db", "notes.txt", ".0009_c1s1_0.jpg"):
        (simple.gallery / name).touch()
    (simple.gallery / "0009_c1.jpg").mkdir()
    assert len(simple.read().gallery) == 3


# What is refused.


def test_missing_files_are_named_and_counted(files: Files) -> None:
    files.add(files.query, "0001_c1s1_0.jpg", [1, 0])
    for number in range(15):
        files.add(files.gallery, f"0001_c2s1_{number:02}.jpg")
    message = r"15 of 16 files are missing in .*_00_0\.bin, .*_09_0\.bin and 5 more"
    with pytest.raises(AscendError, match=message):
        files.read()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones(2, np.float32).tobytes(), r"vector of 3 values, as most do: x_0\.bin \(2 values"),
        (b"", r"vector of 3 values, as most do: x_0\.bin \(0 values"),
        (b"12345", r"cannot be read as vectors: x_0\.bin"),
        (np.array([1, np.nan, 1], np.float32).tobytes(), r"NaN or infinity: x_0\.bin"),
        (np.array([1, -np.inf, 1], np.float32).tobytes(), r"NaN or infinity: x_0\.bin"),
    ],
)
def test_damaged_files_are_named(simple: Files, data: bytes, message: str) -> None:
    name = "0002_c2s1_1"
    (simple.folder / f"{name}_0.bin").write_bytes(data)
    with pytest.raises(AscendError, match="1 files in .*" + message.replace("x_0", f"{name}_0")):
        simple.read()


@pytest.mark.parametrize("ending", ["_0.npy", "_0.txt"])
@pytest.mark.parametrize("data", [b"no numbers", b"\x93NUMPY\x01\x00\xff", b"PK\x03\x04"])
def test_damaged_files_of_other_formats_are_named(files: Files, ending: str, data: bytes) -> None:
    files.add(files.query, "0001_c1s1_0.jpg")
    files.add(files.gallery, "0001_c2s1_0.jpg")
    for name in ("0001_c1s1_0", "0001_c2s1_0"):
        (files.folder / f"{name}{ending}").write_bytes(data)
    with pytest.raises(AscendError, match=r"2 files in .* cannot be read as vectors"):
        files.read()


def test_objects_and_text_in_npy_files_are_refused(files: Files) -> None:
    files.add(files.query, "0001_c1s1_0.jpg")
    files.add(files.gallery, "0001_c2s1_0.jpg")
    np.save(files.folder / "0001_c1s1_0_0.npy", np.array([{}], object))
    np.save(files.folder / "0001_c2s1_0_0.npy", np.array(["x"]))
    with pytest.raises(AscendError, match=r"2 files in .* cannot be read as vectors"):
        files.read()


def test_values_too_large_for_float32_are_refused(files: Files) -> None:
    files.add(files.query, "0001_c1s1_0.jpg")
    files.add(files.gallery, "0001_c2s1_0.jpg")
    np.save(files.folder / "0001_c1s1_0_0.npy", np.array([[1e300, 1]]))
    np.save(files.folder / "0001_c2s1_0_0.npy", np.array([[1.0, 1]]))
    with pytest.raises(AscendError, match=r"infinity: 0001_c1s1_0_0\.npy"):
        files.read()


def test_empty_files_are_no_vectors(simple: Files) -> None:
    for path in simple.folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(AscendError, match=r"5 files in .* hold no vector of 0 values"):
        simple.read()


def test_two_pictures_with_one_file_are_refused_unless_copies(simple: Files) -> None:
    simple.add(simple.gallery, "0001_c1s1_0.png")
    with pytest.raises(AscendError, match=r"0001_c1s1_0\.jpg and .*0001_c1s1_0\.png are different"):
        simple.read()
    shutil.copy(simple.query / "0001_c1s1_0.jpg", simple.gallery / "0001_c1s1_0.png")
    assert len(simple.read().gallery) == 4


def test_unusable_folders_are_refused(simple: Files, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    none, empty, folder = tmp_path / "none", tmp_path / "empty", simple.folder
    with pytest.raises(DatasetError, match="none does not exist"):
        read_predictions(none, simple.gallery, folder)
    with pytest.raises(DatasetError, match="empty holds no pictures to score"):
        read_predictions(simple.query, empty, folder)
    with pytest.raises(AscendError, match="none does not exist"):
        read_predictions(simple.query, simple.gallery, none)
    with pytest.raises(AscendError, match="is not a folder"):
        read_predictions(simple.query, simple.gallery, simple.query / "0001_c1s1_0.jpg")
    with pytest.raises(AscendError, match="found nothing"):
        read_predictions(simple.query, simple.gallery, empty)


def test_names_that_do_not_parse_are_refused(simple: Files) -> None:
    simple.add(simple.query, "somebody.jpg")
    with pytest.raises(DatasetError, match=r"1 of 3 pictures .*query.*: somebody\.jpg"):
        simple.read()


def test_sides_that_do_not_belong_together_are_refused(files: Files) -> None:
    files.add(files.query, "0001_c1s1_0.jpg", [1, 0])
    files.add(files.gallery, "0002_c1s1_0.jpg", [1, 0])
    with pytest.raises(MismatchError, match="none of the 1 queries"):
        score_predictions(files.read())


# Remarks.


def test_a_run_without_a_summary_is_remarked(
    simple: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert simple.read().remarks == ()
    monkeypatch.chdir(simple.folder)
    assert read_predictions(simple.query, simple.gallery, ".").remarks == ()
    (simple.root / "out" / "bs1_summary.json").unlink()
    (remark,) = simple.read().remarks
    assert "bs1_summary.json" in remark


def test_outputs_of_another_run_are_remarked(simple: Files) -> None:
    summary = simple.root / "out" / "bs1_summary.json"
    fields = json.loads(summary.read_text())
    del fields["filesinfo"]["3"]
    summary.write_text(json.dumps(fields))
    (remark,) = simple.read().remarks
    assert remark.startswith("1 of 5 files are not of the run that bs1_summary.json is about: ")
    for text in ("", "[]", "{}", '{"filesinfo": [1]}', '{"filesinfo": {"0": 1}}'):
        summary.write_text(text)
        (remark,) = simple.read().remarks
        assert remark.startswith("5 of 5 files")


def test_vectors_of_zeros_are_remarked(simple: Files) -> None:
    simple.predict("0002_c2s1_1.jpg", [0, 0, 0])
    (remark,) = simple.read().remarks
    assert remark == "1 vectors are all zeros: 0002_c2s1_1_0.bin"


# The command.


def test_the_command_prints_what_the_guides_script_prints(simple: Files) -> None:
    result = simple.run()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[:6] == [
        "The test feature is normalized",
        "Validation Results",
        "mAP: 75.0%",
        "CMC curve, Rank-1  :50.0%",
        "CMC curve, Rank-5  :100.0%",
        "CMC curve, Rank-10 :100.0%",
    ]
    assert result.stdout.splitlines()[6:] == [
        "2 queries against 3 gallery pictures, vectors of 3",
        "1 junk pictures of the gallery left out",
    ]
    assert f"vectors: {simple.folder}/*_0.bin" in result.stderr
    assert "remark" not in result.stderr


def test_the_command_says_what_was_dropped_and_remarked(simple: Files) -> None:
    simple.add(simple.query, "0007_c1s1_0.jpg", [1, 1, 1])
    (simple.root / "out" / "bs1_summary.json").unlink()
    result = simple.run()
    assert "1 queries dropped: 1 of people not in the gallery" in result.stdout
    assert "remark: no bs1_summary.json" in result.stderr


def test_the_command_prints_json(simple: Files) -> None:
    result = simple.run("--json", "--suffix", "_0")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["mAP"] == pytest.approx(0.75)
    assert printed["cmc"] == [0.5, 1, 1]
    assert (printed["queries"], printed["gallery"], printed["dropped_queries"]) == (2, 3, 0)
    assert (printed["ending"], printed["dimension"]) == ("_0.bin", 3)
    assert printed["junk"] == {"query": 0, "gallery": 1}
    assert printed["remarks"] == []
