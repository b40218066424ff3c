from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from reidkit import networks, store
from reidkit.cli import main
from reidkit.datasets.drawn import draw_dataset
from reidkit.networks import Network


class Result:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


class Runner:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Result:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, out, err)

    def well(self, *arguments: object) -> Result:
        result = self(*arguments)
        assert result.code == 0, result.err
        return result

    def fails(self, *arguments: object, code: int = 1) -> str:
        """Run a command that must fail, without a traceback; give its one line."""
        result = self(*arguments)
        assert result.code == code, (result.out, result.err)
        assert "Traceback" not in result.err
        line = result.err.strip().splitlines()[-1]
        if code == 1:
            complaints = [text for text in result.err.splitlines() if text.startswith("reidkit:")]
            assert complaints == [line]
        return line


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "data"
    draw_dataset(root, people=6, cameras=3, seed=5, workers=1)
    return root


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "resnet18.safetensors"
    save_file(networks.initial_tensors(Network("resnet18", classes=7)), path)
    return path


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network from elsewhere: BGR, raw 0..255, NCHW, its own input and output names."""
    random = np.random.default_rng(3)
    weights = {
        "w1": 0.001 * random.standard_normal((8, 3, 5, 5)).astype(np.float32),
        "b1": np.linspace(-1, 1, 8, dtype=np.float32),
        "w2": random.standard_normal((12, 8, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["data", "w1", "b1"], ["c1"], strides=[4, 4]),
        helper.make_node("Tanh", ["c1"], ["t1"]),
        helper.make_node("Conv", ["t1", "w2"], ["c2"], strides=[2, 2]),
        helper.make_node("MaxPool", ["c2"], ["p"], kernel_shape=[3, 3], strides=[3, 3]),
        helper.make_node("Flatten", ["p"], ["fc1_output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "elsewhere",
        [helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, ["N", 3, 96, 48])],
        [helper.make_tensor_value_info("fc1_output", onnx.TensorProto.FLOAT, ["N", 36])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("foreign") / "elsewhere.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


@pytest.fixture(scope="module")
def package(foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "p"
    with pytest.raises(SystemExit) as exit_:
        main(["package", str(foreign), str(out), "--size", "96x48", "--colour", "bgr"])
    assert exit_.value.code == 0
    return out


def straightforward_scores(model: Path, root: Path) -> tuple[float, float, list[float], int]:
    """Score as a script would: onnxruntime, Pillow, a sort for each query, Python loops."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def side(folder: str) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
        vectors, ids = [], []
        for path in sorted((root / folder).iterdir()):
            match = re.match(r"([-\d]+)_c(\d+)", path.name)
            assert match
            if match[1] == "-1":
                continue
            with Image.open(path) as image:
                pixels = image.convert("RGB").resize((48, 96), Image.Resampling.BILINEAR)
            inputs = np.asarray(pixels)[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
            (vector,) = session.run(None, {"data": inputs})[0]
            vectors.append(vector.astype(np.float64) / np.linalg.norm(vector))
            ids.append((int(match[1]), int(match[2])))
        return np.array(vectors), ids

    queries, query_ids = side("query")
    gallery, gallery_ids = side("bounding_box_test")
    precisions, penalties, first_hits = [], [], []
    for vector, (person, camera) in zip(queries, query_ids, strict=True):
        order = np.argsort(-(gallery @ vector), kind="stable")
        ranked = [gallery_ids[i] for i in order if gallery_ids[i] != (person, camera)]
        hits = [rank for rank, (other, _) in enumerate(ranked, 1) if other == person]
        if hits:
            precisions.append(np.mean([(n + 1) / rank for n, rank in enumerate(hits)]))
            penalties.append(len(hits) / hits[-1])
            first_hits.append(hits[0])
    cmc = [float(np.mean([hit <= k for hit in first_hits])) for k in range(1, 51)]
    return float(np.mean(precisions)), float(np.mean(penalties)), cmc, len(precisions)


def test_a_foreign_model_scores_as_a_straightforward_script(
    run: Runner, foreign: Path, package: Path, data: Path
) -> None:
    found = run.well("score", package, "--data", data, "--json").json
    mAP, mINP, cmc, queries = straightforward_scores(foreign, data)
    assert found["queries"] == queries
    assert found["mAP"] == pytest.approx(mAP, abs=1e-6)
    assert found["mINP"] == pytest.approx(mINP, abs=1e-6)
    length = len(found["cmc"])
    assert found["cmc"] == pytest.approx(cmc[:length], abs=1e-6)
    assert 0.05 < mAP < 0.95, "a test on a perfect or hopeless model would prove little"


def test_the_wrong_colour_order_gives_other_scores(
    run: Runner, foreign: Path, package: Path, data: Path, tmp_path: Path
) -> None:
    run.well("package", foreign, tmp_path / "rgb", "--size", "96x48", "--colour", "rgb")
    right = run.well("score", package, "--data", data, "--json").json
    wrong = run.well("score", tmp_path / "rgb", "--data", data, "--json").json
    assert right["mAP"] != wrong["mAP"]
    contracts = {result["made_by"]["contract_sha256"] for result in (right, wrong)}
    assert len(contracts) == 2


def test_from_checkpoint_to_scores_step_by_step(
    run: Runner, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    p, q, g = tmp_path / "p", tmp_path / "q", tmp_path / "g"
    made = run.well("export", checkpoint, p, "--size", "64x32", "--json").json
    assert made["architecture"] == "resnet18"
    assert made["input"]["height"] == 64
    run.well("embed", p, "--data", data, "--split", "query", "-o", q)
    listed = run.well("embed", p, "--data", data, "--split", "gallery", "-o", g, "--json").json
    assert listed["dimension"] == 512
    steps = run.well("evaluate", q, g, "--json").json
    at_once = run.well("score", p, "--data", data, "--json", "--batch", 3).json
    for name in ("mAP", "mINP", "queries", "dropped_queries"):
        assert steps[name] == pytest.approx(at_once[name], abs=1e-6)
    assert steps["made_by"]["model_sha256"] == made["engine"]["sha256"]


def test_score_can_keep_everything_and_goes_on(
    run: Runner, package: Path, data: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "out", tmp_path / "report.html"
    first = run.well("score", package, "--data", data, "-o", out, "--report", report, "--json")
    assert json.loads((out / "scores.json").read_text()) == first.json
    assert "<html" in report.read_text()
    before = (out / "gallery" / "vectors.npy").stat().st_mtime_ns
    again = run.well("score", package, "--data", data, "-o", out, "--json")
    assert again.json == first.json
    assert (out / "gallery" / "vectors.npy").stat().st_mtime_ns == before
    table = run.well("score", package, "--data", data).out
    for word in ("mAP", "Rank-1", "mINP", f"{first.json['queries']} queries"):
        assert word in table


def test_json_is_one_object_of_fractions(run: Runner, package: Path, data: Path) -> None:
    found = run.well("score", package, "--data", data, "--json", "--max-rank", 5).json
    assert set(found) >= {"mAP", "mINP", "cmc", "queries", "dropped_queries", "made_by"}
    assert len(found["cmc"]) == 5
    assert 0 <= found["mAP"] <= 1
    made_by = found["made_by"]
    assert made_by["runtime"] == "onnxruntime"
    assert made_by["device"] == "cpu"
    assert made_by["layout"] == "market1501"


def test_unit_length_vectors_rank_alike_by_both_metrics(
    run: Runner, package: Path, data: Path
) -> None:
    scores = [
        run.well("score", package, "--data", data, "--metric", metric, "--json").json
        for metric in ("cosine", "euclidean")
    ]
    assert scores[0]["mAP"] == pytest.approx(scores[1]["mAP"], abs=1e-4)
    assert [score["metric"] for score in scores] == ["cosine", "euclidean"]


def test_embedding_loose_pictures(run: Runner, package: Path, data: Path, tmp_path: Path) -> None:
    pictures = sorted((data / "query").iterdir())
    run.well("embed", package, *pictures[:3], data / "bounding_box_test", "-o", tmp_path / "e")
    made = store.read_embeddings(tmp_path / "e")
    assert made.samples.paths.tolist()[:3] == [str(path) for path in pictures[:3]]
    assert len(made) == 3 + len(list((data / "bounding_box_test").iterdir()))
    assert set(made.samples.person_ids.tolist()) == {-1}


def test_flip_is_another_contract(run: Runner, package: Path, data: Path, tmp_path: Path) -> None:
    for name, flags in (("plain", []), ("flip", ["--flip"])):
        run.well(
            "embed", package, "--data", data, "--split", "query", "-o", tmp_path / name, *flags
        )
    line = run.fails("evaluate", tmp_path / "plain", tmp_path / "flip")
    assert "input contract" in line


def test_a_table_data_set(run: Runner, package: Path, data: Path, tmp_path: Path) -> None:
    rows = ["path,person_id,camera_id,split"]
    for split, folder in (("query", "query"), ("gallery", "bounding_box_test")):
        for path in sorted((data / folder).iterdir()):
            match = re.match(r"([-\d]+)_c(\d+)", path.name)
            assert match
            rows.append(f"{os.path.relpath(path, tmp_path)},{match[1]},{match[2]},{split}")
    (tmp_path / "set.csv").write_text("\n".join(rows))
    by_table = run.well("score", package, "--data", tmp_path / "set.csv", "--json").json
    by_names = run.well("score", package, "--data", data, "--json").json
    assert by_table["made_by"]["layout"] == "table"
    assert by_table["mAP"] == pytest.approx(by_names["mAP"], abs=1e-9)


def test_vectors_made_by_other_tools(run: Runner, tmp_path: Path) -> None:
    people = np.array([1, 1, 2, 2])
    vectors = np.eye(4)[[0, 0, 1, 1]]
    for name, camera in (("q", 1), ("g", 2)):
        np.savez(
            tmp_path / f"{name}.npz",
            vectors=vectors,
            person_ids=people,
            camera_ids=np.full(4, camera),
        )
        run.well("embeddings", "import", tmp_path / f"{name}.npz", "-o", tmp_path / name)
    found = run.well("evaluate", tmp_path / "q", tmp_path / "g", "--json").json
    assert found["mAP"] == 1
    assert found["cmc"] == [1, 1, 1, 1]
    assert "already" in run.fails("embeddings", "import", tmp_path / "q.npz", "-o", tmp_path / "q")
    run.well("embeddings", "import", tmp_path / "q.npz", "-o", tmp_path / "q", "--overwrite")


def test_shards_merge_into_the_folder_of_one_run(
    run: Runner, package: Path, data: Path, tmp_path: Path
) -> None:
    gallery = ["embed", package, "--data", data, "--split", "gallery"]
    rows = []
    for shard in ("3/3", "1/3", "2/3"):
        part = run.well(*gallery, "--shard", shard, "-o", tmp_path / shard[0], "--json").json
        assert part["shard"] == shard
        rows.append(part["rows"])
    assert "vectors of shard 2/3" in run.well(*gallery, "--shard", "2/3", "-o", tmp_path / "2").out
    line = run.fails(*gallery, "--shard", "1/3", "-o", tmp_path / "2")
    assert "another shard (2/3, not 1/3)" in line
    parts, out = [tmp_path / name for name in "123"], tmp_path / "all"
    assert "missing: 2/3;" in run.fails("embeddings", "merge", parts[0], parts[2], "-o", out)
    merged = run.well("embeddings", "merge", *parts, "-o", out, "--json").json
    whole = run.well(*gallery, "-o", tmp_path / "whole", "--json").json
    assert merged == whole | {"out": str(out), "shards": 3}
    assert merged["rows"] == sum(rows)
    for name in ("manifest.json", "samples.csv", "vectors.npy"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    before = (out / "vectors.npy").stat().st_mtime_ns
    assert run.well(*gallery, "-o", out, "--json").json == whole | {"out": str(out)}
    assert (out / "vectors.npy").stat().st_mtime_ns == before
    assert "already" in run.fails("embeddings", "merge", *parts, "-o", out)
    again = run.well("embeddings", "merge", *parts, "-o", out, "--overwrite").out
    assert f"{merged['rows']:,} vectors of 3 shards" in again


def test_a_shard_without_pictures(run: Runner, package: Path, data: Path, tmp_path: Path) -> None:
    picture = min((data / "query").iterdir())
    for shard in ("1/2", "2/2"):
        run.well("embed", package, picture, "--shard", shard, "-o", tmp_path / shard[0])
    assert len(store.read_embeddings(tmp_path / "1")) == 0
    run.well("embeddings", "merge", tmp_path / "2", tmp_path / "1", "-o", tmp_path / "all")
    assert len(store.read_embeddings(tmp_path / "all")) == 1


def test_unreadable_pictures(run: Runner, package: Path, data: Path, tmp_path: Path) -> None:
    for path in sorted((data / "query").iterdir())[:4]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff broken")
    line = run.fails("embed", package, tmp_path, "-o", tmp_path / "out" / "e")
    assert "bad.jpg" in line
    assert "1 of 5" in line
    skipped = run.well(
        "embed", package, tmp_path, "-o", tmp_path / "out" / "e", "--skip-unreadable", "--json"
    )
    assert skipped.json["rows"] == 4
    assert skipped.json["unreadable"][0][0] == str(bad)
    manifest = json.loads((tmp_path / "out" / "e" / "manifest.json").read_text())
    assert manifest["unreadable"][0][0] == str(bad)


def test_inspect_knows_a_checkpoint(run: Runner, checkpoint: Path) -> None:
    found = run.well("inspect", checkpoint, "--json").json
    assert found["architecture"] == "resnet18"
    assert found["classes"] == 7
    assert found["complete"] is True
    text = run.well("inspect", checkpoint, "--tensors").out
    assert "base.layer1.0.conv1.weight  float32 [64, 64, 3, 3]" in text


def test_inspect_says_what_is_missing(run: Runner, checkpoint: Path, tmp_path: Path) -> None:
    tensors = networks.initial_tensors(Network("resnet18"))
    del tensors["base.layer3.1.bn2.bias"]
    save_file(tensors, tmp_path / "x.safetensors")
    found = run.well("inspect", tmp_path / "x.safetensors", "--json").json
    assert found["complete"] is False
    assert "base.layer3.1.bn2.bias" in found["problem"]
    assert "base.layer3.1.bn2.bias" in run.fails(
        "export", tmp_path / "x.safetensors", tmp_path / "p"
    )
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "nowhere", "--data", "DATA"],
        ["score", "PACKAGE", "--data", "nowhere"],
        ["score", "PACKAGE", "--data", "DATA", "--layout", "duke"],
        ["score", "PACKAGE", "--data", "DATA", "--device", "toaster"],
        ["evaluate", "nowhere", "nowhere"],
        ["evaluate", "PACKAGE", "PACKAGE"],
        ["embed", "PACKAGE", "nowhere.jpg", "-o", "OUT"],
        ["inspect", "nowhere.pth"],
        ["export", "nowhere.pth", "OUT"],
        ["package", "nowhere.onnx", "OUT", "--size", "96x48", "--colour", "bgr"],
        ["package", "FOREIGN", "OUT", "--size", "95x48", "--colour", "bgr"],
        ["package", "FOREIGN", "OUT", "--size", "96x48", "--colour", "bgr", "--scale", "255"],
        ["embeddings", "import", "nowhere.npz", "-o", "OUT"],
        ["draw", "OUT", "--people", "0"],
    ],
)
def test_errors_are_one_line_and_exit_1(
    run: Runner, arguments: list[str], package: Path, foreign: Path, data: Path, tmp_path: Path
) -> None:
    places = {"PACKAGE": package, "FOREIGN": foreign, "DATA": data, "OUT": tmp_path / "out"}
    run.fails(*(places.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["score", "p"],
        ["score", "p", "--data", "d", "--metric", "manhattan"],
        ["score", "p", "--data", "d", "--batch", "0"],
        ["embed", "p", "-o", "out"],
        ["embed", "p", "a.jpg", "--data", "d", "-o", "out"],
        ["embed", "p", "--data", "d", "-o", "out"],
        ["embed", "p", "a.jpg", "--layout", "table", "-o", "out"],
        ["embed", "p", "a.jpg", "-o", "out", "--batch", "1000000000"],
        ["embed", "p", "a.jpg", "-o", "out", "--shard", "0/8"],
        ["embed", "p", "a.jpg", "-o", "out", "--shard", "3"],
        ["embeddings", "merge", "-o", "out"],
        ["package", "m", "out", "--size", "9x9", "--colour", "rgb", "--scale", "1e400"],
        ["export", "c", "out", "--size", "256"],
        ["package", "m.onnx", "out", "--size", "256x128"],
        ["package", "m", "out", "--size", "9x9", "--colour", "rgb", "--mean", "0.5"],
        ["package", "m", "out", "--size", "9x9", "--colour", "rgb", "--scale", "x"],
        ["package", "m", "out", "--size", "9x9", "--colour", "rgb", "--mean", "1,2", "--scale=1"],
    ],
)
def test_wrong_usage_exits_2(run: Runner, arguments: list[str]) -> None:
    run.fails(*arguments, code=2)


def test_debug_shows_the_traceback(run: Runner) -> None:
    result = run("score", "nowhere", "--data", "nowhere", "--debug")
    assert result.code == 1
    assert "Traceback" in result.err
    assert result.err.strip().splitlines()[-1].startswith("reidkit: ")


@pytest.mark.skipif(os.name == "nt", reason="signals are sent differently on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.2, 0.5, 1.0, 2.0])
def test_an_interruption_exits_130_without_noise(
    package: Path, data: Path, tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    """Interrupt a real process: while it imports, loads, embeds."""
    pictures = sorted((data / "bounding_box_test").iterdir()) * 100
    command = ["embed", package, "-o", tmp_path / "e", *pictures, "--batch", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "reidkit", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(delay)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if process.returncode == -number:
        return  # before Python itself was ready
    # Python ends itself with SIGINT where C code of a library ran what was interrupted; to a
    # shell that is 130 too.
    assert process.returncode in (130, -signal.SIGINT), err
    assert b"Traceback" not in err
    assert b"interrupted" in err


def test_doctor_survives_what_it_is_for() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; from reidkit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["checks"]["engines"].startswith("NO: ")


def test_brackets_in_a_path_are_no_markup(
    run: Runner, package: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "x[" / "y]").parent.mkdir()
    (tmp_path / "x[" / "y]").symlink_to(data)
    assert "x[/y]" in run.well("score", package, "--data", tmp_path / "x[" / "y]").out


def test_a_cut_off_curve_shows_no_ranks_beyond(run: Runner, package: Path, data: Path) -> None:
    table = run.well("score", package, "--data", data, "--max-rank", 1).out
    assert "Rank-1" in table
    assert "Rank-5" not in table


def test_pictures_left_out_are_named_with_the_scores(
    run: Runner, package: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "data")
    bad = sorted((tmp_path / "data" / "query").iterdir())[2]
    bad.write_bytes(bad.read_bytes()[:100])
    out = run.well("score", package, "--data", tmp_path / "data", "--skip-unreadable").out
    assert "1 unreadable pictures left out" in out
    assert bad.name in out


def test_a_place_that_cannot_hold_a_report_is_refused_before_anything_is_computed(
    run: Runner, package: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "report.html"
    out = tmp_path / "out"
    line = run.fails("score", package, "--data", data, "-o", out, "--report", target)
    assert str(tmp_path / "file") in line
    assert not out.exists()


def test_a_report_that_cannot_be_written_loses_no_scores(
    run: Runner, package: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on the disk")

    monkeypatch.setattr("reidkit.reports.write_report", fail)
    target = tmp_path / "report.html"
    result = run("score", package, "--data", data, "--json", "--report", target)
    assert result.code == 1
    assert "no space left" in result.err
    assert result.json["mAP"] > 0


def test_doctor(run: Runner) -> None:
    found = run.well("doctor", "--json").json
    assert found["checks"]["jpeg decoders agree"] == "yes"
    assert "onnxruntime on cpu" in found["checks"]["engines"]
    assert "reidkit" in run.well("doctor").out


def test_version_and_help(run: Runner) -> None:
    assert re.fullmatch(r"reidkit \d+\.\d+\.\d+\n", run.well("--version").out)
    for command in ("draw", "export", "package", "embed", "evaluate", "score", "doctor", "demo"):
        assert "--json" in run.well(command, "--help").out


def test_a_reader_that_goes_away_is_no_crash() -> None:
    """`reidkit ... | head -0`."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "reidkit", "doctor"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.slow
def test_the_demo_needs_no_torch(tmp_path: Path) -> None:
    """Run it in a process in which torch cannot be imported."""
    code = "import sys; sys.modules['torch'] = None; from reidkit.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "-o", str(tmp_path / "demo"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["queries"] > 50
    assert found["mAP"] > 0.5
    assert "drawn people alone" in found["made_by"]["Note"]
    report = (tmp_path / "demo" / "report.html").read_text()
    assert "drawn people alone" in report
    assert "data:image/jpeg;base64" in report
