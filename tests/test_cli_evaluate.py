"""The options of `evaluate` and `score` that rank, and what they show besides the scores."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reidkit import operating, reranking, scoring, store
from reidkit.cli import _ranking, reidkit_command
from reidkit.datasets.drawn import draw_dataset
from reidkit.records import Embeddings, Samples
from tests.certified import write_fake


def side(seed: int, size: int) -> Embeddings:
    random = np.random.default_rng(seed)
    people = random.integers(0, 8, size)
    centres = np.random.default_rng(3).standard_normal((8, 12))
    vectors = (centres[people] + random.standard_normal((size, 12))).astype(np.float32)
    paths = [f"{seed}-{row}.jpg" for row in range(size)]
    return Embeddings(vectors, Samples.from_columns(paths, people, random.integers(1, 4, size)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("sides")
    store.write_embeddings(root / "query", side(1, 20))
    store.write_embeddings(root / "gallery", side(2, 90))
    return root / "query", root / "gallery"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(reidkit_command, [str(argument) for argument in arguments])


def found(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_the_names_offered_are_those_of_the_library() -> None:
    assert tuple(scoring.PROTOCOLS) == _ranking.PROTOCOLS
    assert tuple(reranking.VARIANTS) == _ranking.VARIANTS


def test_reranked_scores_are_those_of_the_library(folders: tuple[Path, Path]) -> None:
    options = ("--rerank", "--k1", 8, "--k2", 3, "--weight", 0.4, "--variant", "tao")
    scores = found("evaluate", *folders, *options)
    comparison = reranking.KReciprocal(8, 3, 0.4, variant="tao")
    expected = scoring.evaluate(side(1, 20), side(2, 90), metric=comparison)
    assert scores["mAP"] == expected.mAP
    assert scores["metric"] == comparison.name
    assert scores["mAP"] != found("evaluate", *folders)["mAP"]


def test_points_without_a_report_are_refused(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders, "--points", "points.json")
    assert result.exit_code == 2
    assert "only together with --report" in result.output


def test_settings_of_reranking_alone_are_refused(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders, "--k1", 8, "--variant", "tao")
    assert result.exit_code == 2
    assert "--k1 and --variant: only together with --rerank" in result.output


@pytest.mark.parametrize("protocol", _ranking.PROTOCOLS)
def test_every_protocol_can_be_named(folders: tuple[Path, Path], protocol: str) -> None:
    scores = found("evaluate", *folders, "--protocol", protocol)
    settings = scoring.PROTOCOLS[protocol]
    expected = scoring.evaluate(side(1, 20), side(2, 90), protocol=settings)
    assert (scores["protocol"], scores["mAP"]) == (protocol, expected.mAP)


def test_pooled_expanded_and_augmented(folders: tuple[Path, Path]) -> None:
    scores = found("evaluate", *folders, "--pool", "--expand", 3, "--augment", 4)
    gallery = reranking.augment_gallery(side(2, 90), count=4)
    query = reranking.expand_queries(reranking.pool_queries(side(1, 20)), gallery, count=3)
    assert scores["mAP"] == scoring.evaluate(query, gallery).mAP
    made_by = scores["made_by"]
    assert (made_by["pool"], made_by["expand"], made_by["augment"]) == (True, 3, 4)


@pytest.mark.parametrize("memory", ["1MiB", "2 MB", "3000000", "0.5gib"])
def test_memory_is_a_size(folders: tuple[Path, Path], memory: str) -> None:
    expected = found("evaluate", *folders)
    assert found("evaluate", *folders, "--memory", memory) == expected


@pytest.mark.parametrize(
    ("memory", "code", "message"), [("much", 2, "not a size"), ("1kB", 1, "at least 1048576")]
)
def test_bad_sizes_are_refused(
    folders: tuple[Path, Path], memory: str, code: int, message: str
) -> None:
    result = run("evaluate", *folders, "--memory", memory)
    assert result.exit_code == (code if code == 2 else 1)
    assert message in result.output + str(result.exception)


def test_pairs_and_cameras_are_printed_and_in_the_json(folders: tuple[Path, Path]) -> None:
    scores = found("evaluate", *folders, "--pairs", "--cameras")
    pairs = scoring.measure_pairs(side(1, 20), side(2, 90))
    assert scores["pairs"]["equal_error_rate"] == pairs.equal_error_rate
    assert scores["pairs"]["thresholds"][0] is None  # too few pairs for 1 in 10,000
    assert scores["pairs"]["thresholds"][-1] == pairs.thresholds[-1]
    cameras = scoring.score_cameras(side(1, 20), side(2, 90))
    assert scores["cameras"]["queries"] == cameras.queries.tolist()
    text = run("evaluate", *folders, "--pairs", "--cameras").output
    assert "too few pairs" in text
    assert "equal error rate" in text
    assert "queries down" in text


def test_each_querys_figures_are_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found("evaluate", *folders, "--queries", tmp_path / "queries.csv")
    with (tmp_path / "queries.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = scoring.score_queries(side(1, 20), side(2, 90))
    assert [float(row["average_precision"]) for row in rows] == list(expected.average_precisions)
    ranks = [int(rank) for row in rows for rank in row["ranks"].split()]
    assert ranks == expected.ranks.tolist()
    assert rows[0]["path"] == f"1-{expected.queries[0]}.jpg"


@pytest.mark.parametrize("protocol", ["market1501", "cuhk03-classic"])
def test_a_report_is_written(folders: tuple[Path, Path], tmp_path: Path, protocol: str) -> None:
    found("evaluate", *folders, "--protocol", protocol, "--report", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Cumulative matching" in page
    assert ("Equal error rate" in page) == (protocol == "market1501")


def test_a_reranked_report_is_written(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found("evaluate", *folders, "--rerank", "--report", tmp_path / "report.html")
    assert "k-reciprocal" in (tmp_path / "report.html").read_text()


def test_lists_of_single_shot_protocols_are_refused(folders: tuple[Path, Path]) -> None:
    result = run("evaluate", *folders, "--protocol", "vehicleid", "--pairs", "--cameras")
    assert result.exit_code == 2
    assert "--pairs and --cameras" in result.output
    assert "draws 10 galleries" in " ".join(result.output.split())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages, p and q, and two data sets of one name."""
    root = tmp_path_factory.mktemp("drawn")
    for seed, name in enumerate("ab"):
        draw_dataset(root / name / "set", people=4, cameras=2, seed=seed)
        write_fake(root / "pq"[seed], seed=seed)
    return root


def test_packages_on_data_sets_give_a_matrix(drawn: Path, tmp_path: Path) -> None:
    packages, roots = [drawn / "p", drawn / "q"], [drawn / "a" / "set", drawn / "b" / "set"]
    options = [option for root in roots for option in ("--data", root)]
    matrix = found("score", *packages, *options, "-o", tmp_path / "out")["matrix"]
    for row, package in zip(matrix, packages, strict=True):
        for scores, root in zip(row, roots, strict=True):
            assert scores == found("score", package, "--data", root)
    assert len({scores["mAP"] for row in matrix for scores in row}) == 4
    kept = tmp_path / "out" / "q" / "set-2"
    assert json.loads((kept / "scores.json").read_text()) == matrix[1][1]
    assert len(store.read_embeddings(kept / "query")) == matrix[1][1]["queries"]
    text = run("score", *packages, *options, "-o", tmp_path / "out").output
    assert "mAP / Rank-1" in text
    assert f"{100 * matrix[1][0]['mAP']:.1f} / {100 * matrix[1][0]['cmc'][0]:.1f} %" in text


def test_a_matrix_has_no_report(drawn: Path, tmp_path: Path) -> None:
    data = drawn / "a" / "set"
    report = ("--report", tmp_path / "report.html")
    result = run("score", drawn / "p", drawn / "q", "--data", data, *report)
    assert result.exit_code == 2
    assert "one package, one data set" in result.output


def test_score_ranks_and_looks_as_evaluate_does(drawn: Path, tmp_path: Path) -> None:
    data = ("--data", drawn / "a" / "set")
    scores = found("score", drawn / "p", *data, "--rerank", "--pairs", "-o", tmp_path)
    sides = (tmp_path / "query", tmp_path / "gallery")
    again = found("evaluate", *sides, "--rerank", "--pairs")
    assert scores["mAP"] == again["mAP"]
    assert scores["pairs"] == again["pairs"]


def test_a_report_shows_the_packages_operating_point(drawn: Path, tmp_path: Path) -> None:
    package, data = tmp_path / "p", drawn / "a" / "set"
    shutil.copytree(drawn / "p", package)
    found("score", package, "--data", data, "-o", tmp_path / "out")
    sides = (tmp_path / "out" / "query", tmp_path / "out" / "gallery")
    points = write_points(sides, tmp_path / "points.json")
    shutil.copy(points, package / "operating-points.json")
    for command in (
        ("score", package, "--data", data),
        ("evaluate", *sides, "--points", points),
    ):
        found(*command, "--report", tmp_path / "report.html")
        assert "false-accept rate 0.3" in (tmp_path / "report.html").read_text()
    found("score", package, "--data", data, "--rerank", "--report", tmp_path / "report.html")
    assert "false-accept rate" not in (tmp_path / "report.html").read_text()


def test_points_of_another_model_are_refused(
    folders: tuple[Path, Path], drawn: Path, tmp_path: Path
) -> None:
    found("score", drawn / "p", "--data", drawn / "a" / "set", "-o", tmp_path / "out")
    sides = (tmp_path / "out" / "query", tmp_path / "out" / "gallery")
    points = write_points(sides, tmp_path / "points.json")
    report = ("--report", tmp_path / "report.html")
    result = run("evaluate", *folders, "--points", points, *report)
    assert "of another model" in str(result.exception)
    result = run("evaluate", *sides, "--metric", "euclidean", "--points", points, *report)
    assert "of another metric" in str(result.exception)


@pytest.mark.parametrize(
    "change", [("--pool",), ("--expand", 2), ("--augment", 2), ("--rerank",)], ids=lambda c: c[0]
)
def test_points_do_not_hold_for_changed_scores(
    folders: tuple[Path, Path], tmp_path: Path, change: tuple[object, ...]
) -> None:
    points = write_points(folders, tmp_path / "points.json")
    report = ("--points", points, "--report", tmp_path / "report.html")
    result = run("evaluate", *folders, *change, *report)
    assert result.exit_code == 2
    assert f"changed by {change[0]}" in " ".join(result.output.split())
    found("evaluate", *folders, *report)


def test_bad_points_are_refused_before_anything_is_computed(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "points.json").write_text("{")
    options = ("--points", tmp_path / "points.json", "--report", tmp_path / "report.html")
    result = run("score", drawn / "p", "--data", drawn / "missing", *options)
    assert "points.json is damaged" in str(result.exception)


def test_own_points_that_do_not_apply_are_left_out_with_a_remark(
    drawn: Path, tmp_path: Path
) -> None:
    package, data, page = tmp_path / "p", drawn / "a" / "set", tmp_path / "report.html"
    shutil.copytree(drawn / "p", package)
    found("score", package, "--data", data, "-o", tmp_path / "out")
    write_points((tmp_path / "out" / "query", data), package / operating.FILE)
    for options in (("--flip",), ("--pool",), ("--metric", "euclidean")):
        result = run("score", package, "--data", data, "--report", page, *options, "--json")
        assert result.exit_code == 0
        assert "remark: the report shows no operating point" in result.stderr
        assert "false-accept rate" not in page.read_text()
    (package / operating.FILE).write_text("{")
    result = run("score", package, "--data", data, "--report", page)
    assert result.exit_code == 0
    assert "is damaged" in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_fails_later_loses_no_scores(tmp_path: Path, options: tuple[str, ...]) -> None:
    samples = Samples.from_columns(["a", "b"], [1, 1], [1, 2])
    vectors = np.eye(2, 12, dtype=np.float32)
    for name, row in (("query", 0), ("gallery", 1)):
        part = Embeddings(vectors[[row]], samples.select(np.array([row])))
        store.write_embeddings(tmp_path / name, part)
    result = run("evaluate", tmp_path / "query", tmp_path / "gallery", "--pairs", *options)
    assert result.exit_code == 1
    assert "all 1 pairs show the same person" in str(result.exception)
    assert "mAP" in result.stdout
    if options:
        assert json.loads(result.stdout)["mAP"] == 1


def test_missing_folders_are_made_for_the_csv(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found("evaluate", *folders, "--queries", tmp_path / "new" / "dir" / "queries.csv")
    assert (tmp_path / "new" / "dir" / "queries.csv").is_file()


def test_distances_are_printed_positive(folders: tuple[Path, Path]) -> None:
    text = run("evaluate", *folders, "--pairs", "--metric", "euclidean").output
    assert "distance at most" in text
    assert "-" not in text.split("equal error rate")[1]


def test_a_matrix_keeps_what_was_scored_where_a_cell_fails(drawn: Path, tmp_path: Path) -> None:
    roots = ("--data", drawn / "a" / "set", "--data", tmp_path / "set")
    result = run("score", drawn / "p", *roots)
    assert result.exit_code == 1
    assert "failed" in result.stdout
    assert f"set-2: {tmp_path / 'set'}" in result.stdout.replace("\n/", " /")
    assert "does not exist" in result.stderr
    result = run("score", drawn / "p", *roots, "--json")
    scored, failed = json.loads(result.stdout)["matrix"][0]
    assert scored["mAP"] > 0
    assert "does not exist" in failed["error"]


def write_points(sides: tuple[Path, Path], path: Path) -> Path:
    """Write operating points as calibration with enough people would have found them."""
    embeddings = store.read_embeddings(sides[0])
    rate = operating.Rate(0.3, 0.2, 0.4)
    points = operating.OperatingPoints(
        "cosine",
        (operating.OperatingPoint(0.3, 0.5, rate, rate),),
        (),
        operating.EqualError(0.5, rate),
        (),
        (),
        operating.Population(10, 5, 2, 20, 20),
        labelled=True,
        same_camera=False,
        model_sha256=embeddings.model_sha256,
        contract_sha256=embeddings.contract_sha256,
    )
    operating.write_points(path, points)
    return path
