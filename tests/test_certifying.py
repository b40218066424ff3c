"""Healthy packages pass, damaged ones fail for the right reason."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from onnx import helper

from reidkit import disk, scoring
from reidkit.benchmarking import Setting
from reidkit.certifying import (
    Agreement,
    BatchCheck,
    Certificate,
    Check,
    Evidence,
    Gate,
    Limits,
    certificate_as_json,
    certify,
    find_objection,
)
from reidkit.certifying import _certify as certifying_module
from reidkit.certifying import _gates as gates
from reidkit.certifying._agreement import (
    measure_agreement,
    measure_overlap,
    measure_pair_cosine,
    measure_rank,
)
from reidkit.certifying._batches import check_batches
from reidkit.certifying._data import fingerprint, hash_pictures, leave_out_junk
from reidkit.compiling import Target, calibration_of, compile_package
from reidkit.errors import (
    ArgumentError,
    DatasetError,
    EngineError,
    MismatchError,
    UnreadableImagesError,
)
from reidkit.package import Package, read_package, write_manifest
from reidkit.records import JUNK, Dataset, Embeddings, Matches, Samples
from tests import certified
from tests.certified import Change, damage, fake_benchmark
from tests.pictures import write_picture

# Untrained networks on a dozen people: one query more or less is several points, so drops are
# judged by the damage tests alone, and these limits leave a healthy package room.
QUICK = Check(Limits(drop_map=5, drop_rank1=8), batches=(1, 4), seconds=0.02)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return certified.draw_people(tmp_path_factory.mktemp("drawn") / "data")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return certified.write_tiny(tmp_path_factory.mktemp("tiny") / "package")


@pytest.fixture(scope="module")
def compiled(source: Package) -> Package:
    return compile_package(source, source.folder.parent / "compiled", target=Target("onnxruntime"))


@pytest.fixture(scope="module")
def fixed(source: Package) -> Package:
    target = Target("onnxruntime", batch=4)
    return compile_package(source, source.folder.parent / "fixed", target=target)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the source's vectors are found again, test after test."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def judge(
    people: Dataset, source: Package, monkeypatch: pytest.MonkeyPatch, work: Path
) -> Callable[[Package], Certificate]:
    """Certify a package against `source` without timing it."""
    fake_benchmark(monkeypatch)
    check = dataclasses.replace(QUICK, work=work)
    return lambda package: certify(package, source, people, check=check)[0]


def copy(package: Package, folder: Path) -> Package:
    shutil.copytree(package.folder, folder)
    return read_package(folder)


def failed(certificate: Certificate) -> dict[str, str]:
    """Give the reasons of the gates that failed, by name."""
    return {gate.name: gate.reason for gate in certificate.gates if gate.verdict == "fail"}


def first_layer(certificate: Certificate) -> str:
    assert certificate.divergence is not None
    assert certificate.divergence.first is not None, certificate.divergence.explanation
    return certificate.divergence.first.layer


# --- healthy packages


def test_a_healthy_package_passes_and_is_really_timed(
    compiled: Package, source: Package, people: Dataset
) -> None:
    stages: dict[str, list[tuple[int, int]]] = {}

    def watch(stage: str) -> Callable[[int, int], None]:
        calls = stages.setdefault(stage, [])
        return lambda done, total: calls.append((done, total))

    certificate, evidence = certify(compiled, source, people, check=QUICK, watch=watch)
    assert certificate.verdict == "pass"
    assert failed(certificate) == {}
    assert certificate.divergence is None
    assert [gate.name for gate in certificate.gates] == [
        "source finds people",
        "mAP kept",
        "Rank-1 kept",
        "vectors agree",
        "vectors spread",
        "strangers stay apart",
        "same at every batch size",
        "calibration apart",
    ]
    assert all(gate.reason == "" for gate in certificate.gates)
    assert certificate.agreement.cosines.min() > 0.99999
    assert certificate.agreement.neighbour_overlap > 0.99
    for side in (certificate.source, certificate.compiled):
        assert (side.runtime, side.device, side.precision) == ("onnxruntime", "cpu", "fp32")
        assert [speed.batch for speed in side.speed.batches] == [1, 4]
        assert side.speed.cold_start > 0
        assert side.speed.size_bytes > 0
    assert certificate.compiled.sha256 == compiled.spec.engine.identity
    assert certificate.source.sha256 == source.spec.engine.identity
    assert certificate.contract_sha256 == source.spec.input.sha256
    assert set(certificate.versions) == {"reidkit", "python", "numpy", "pillow", "onnxruntime"}
    assert "unknown" not in certificate.versions.values()
    names = [f"{side} {split}" for side in ("source", "compiled") for split in ("query", "gallery")]
    assert list(stages) == [*names, "batch sizes", "timing"]
    for stage, calls in stages.items():
        assert calls[-1][0] == calls[-1][1] > 0, stage
    assert len(evidence.source_query) == len(people.query)


def test_a_package_passes_against_itself(
    source: Package, judge: Callable[[Package], Certificate]
) -> None:
    certificate = judge(source)
    assert certificate.verdict == "pass"
    assert certificate.agreement.largest_difference == 0


def test_a_file_of_one_batch_size_passes_and_is_timed_at_it(
    fixed: Package, source: Package, people: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fake_benchmark(monkeypatch)
    check = dataclasses.replace(QUICK, batches=(1, 8))
    certificate, _ = certify(fixed, source, people, check=check)
    assert certificate.verdict == "pass"
    assert [(c.batch, c.pictures, c.last) for c in certificate.batches] == [(4, 6, 2)]
    assert asked == [[1, 4, 8]]
    assert certificate.compiled.batch == 4


def test_every_batch_size_is_checked_with_a_short_last_batch(
    compiled: Package, people: Dataset
) -> None:
    calls: list[tuple[int, int]] = []
    checks = check_batches(
        compiled,
        people.query.paths.tolist(),
        Check(batches=(1, 2, 4, 7, 16, 64)),
        lambda done, total: calls.append((done, total)),
    )
    assert [(c.batch, c.pictures, c.last) for c in checks] == [
        (1, 2, 1),
        (2, 3, 1),
        (4, 6, 2),
        (7, 11, 4),
        (16, 24, 8),
        (64, 96, 32),
    ]
    assert all(min(c.cosine, c.last_cosine) > 0.999999 for c in checks)
    assert calls == [(done, 6) for done in range(1, 7)]


# --- damaged packages


@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("factor", [1.5, -1.0])
def test_scaled_weights_name_their_layer(
    compiled: Package,
    judge: Callable[[Package], Certificate],
    tmp_path: Path,
    layer: int,
    factor: float,
) -> None:
    certificate = judge(
        damage(copy(compiled, tmp_path / "c"), certified.scale(f"w{layer}", factor))
    )
    assert certificate.verdict == "fail"
    assert "have a cosine below 0.9999" in failed(certificate)["vectors agree"]
    assert first_layer(certificate) == f"conv{layer}"
    assert certificate.divergence is not None
    assert f"the first layer that diverges is conv{layer} (Conv)" in (
        certificate.divergence.explanation
    )
    errors = [error.error for error in certificate.divergence.layers]
    assert max(errors[: layer - 1], default=0) < 0.01 < errors[layer - 1]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (certified.reorder_input(1, [2, 1, 0]), "its input's colour channels"),
        (certified.reorder_input(1, [1, 2, 0]), "its input's colour channels"),
        (certified.replace("w1", lambda w: w[:, [2, 1, 0]]), "its input's colour channels"),
        (certified.reorder_input(3, range(15, -1, -1)), "its input is mirrored"),
    ],
    ids=["swapped", "rotated", "weights", "mirrored"],
)
def test_a_changed_input_is_named(
    compiled: Package,
    judge: Callable[[Package], Certificate],
    tmp_path: Path,
    change: Change,
    cause: str,
) -> None:
    certificate = judge(damage(copy(compiled, tmp_path / "c"), change))
    assert "vectors agree" in failed(certificate)
    assert first_layer(certificate) == "conv1"
    assert certificate.divergence is not None
    assert f"agrees with its source where {cause}" in certificate.divergence.explanation


@pytest.mark.parametrize("value", ["r1", "c3"])
def test_a_file_that_mixes_a_batch_fails_at_the_layer_that_does(
    compiled: Package, judge: Callable[[Package], Certificate], tmp_path: Path, value: str
) -> None:
    certificate = judge(damage(copy(compiled, tmp_path / "c"), certified.mix(value)))
    assert "in batches of 4" in failed(certificate)["same at every batch size"]
    assert first_layer(certificate) == "mixing"
    assert certificate.divergence is not None
    assert "depend on the other pictures of its batch" in certificate.divergence.explanation


def test_mixing_shows_where_only_one_batch_size_is_checked(
    compiled: Package, people: Dataset, tmp_path: Path
) -> None:
    mixing = damage(copy(compiled, tmp_path / "c"), certified.mix("r1"))
    (found,) = check_batches(mixing, people.query.paths.tolist(), Check(batches=(8,)))
    assert gates.gate_batches([found]).verdict == "fail"


def test_a_file_of_one_batch_size_that_mixes_fails(
    fixed: Package, judge: Callable[[Package], Certificate], tmp_path: Path
) -> None:
    certificate = judge(damage(copy(fixed, tmp_path / "c"), certified.mix("r1")))
    assert "same at every batch size" in failed(certificate)
    assert first_layer(certificate) == "mixing"


def test_a_file_that_is_wrong_in_the_short_last_batch_alone_fails(
    compiled: Package, judge: Callable[[Package], Certificate], tmp_path: Path
) -> None:
    certificate = judge(damage(copy(compiled, tmp_path / "c"), certified.spoil_batches_of("r2", 2)))
    reasons = failed(certificate)
    assert list(reasons) == ["same at every batch size"]
    assert "in batches of 4, in the short last one of 2" in reasons["same at every batch size"]
    assert first_layer(certificate) == "spoiling"


@pytest.mark.parametrize("batch", [1, 2])
def test_a_layer_is_named_in_a_file_of_a_small_fixed_batch(
    source: Package, judge: Callable[[Package], Certificate], tmp_path: Path, batch: int
) -> None:
    target = Target("onnxruntime", batch=batch)
    package = compile_package(source, tmp_path / "c", target=target)
    assert first_layer(judge(damage(package, certified.scale("w2", 2)))) == "conv2"


def test_vectors_that_collapse_to_a_point_fail(
    compiled: Package, judge: Callable[[Package], Certificate], tmp_path: Path
) -> None:
    certificate = judge(damage(copy(compiled, tmp_path / "c"), certified.collapse_to_a_point()))
    assert (
        "collapsed: two pictures chosen at random have a mean cosine of 1.0000"
        in (failed(certificate)["strangers stay apart"])
    )
    assert first_layer(certificate) == "flatten"


def test_vectors_that_collapse_to_a_line_fail(
    compiled: Package, judge: Callable[[Package], Certificate], tmp_path: Path
) -> None:
    certificate = judge(damage(copy(compiled, tmp_path / "c"), certified.collapse_to_a_line()))
    assert "collapsed: they have an effective rank of 1.0" in failed(certificate)["vectors spread"]
    assert first_layer(certificate) == "flatten"


def test_a_layer_that_collapses_inside_is_named(
    compiled: Package, judge: Callable[[Package], Certificate], tmp_path: Path
) -> None:
    change = certified.together(certified.scale("w3", 1e-5), certified.scale("b3", 10))
    certificate = judge(damage(copy(compiled, tmp_path / "c"), change))
    assert "strangers stay apart" in failed(certificate)
    assert first_layer(certificate) == "conv3"


def test_nan_is_an_error_that_names_a_picture(
    compiled: Package, source: Package, people: Dataset, tmp_path: Path
) -> None:
    broken = damage(copy(compiled, tmp_path / "c"), certified.give_nan())
    with pytest.raises(EngineError, match="gave NaN or infinity for") as caught:
        certify(broken, source, people, check=QUICK)
    assert people.query.paths[0] in str(caught.value)


def test_a_file_whose_inside_cannot_be_read_still_gets_its_certificate(
    compiled: Package,
    judge: Callable[[Package], Certificate],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("no inside")

    monkeypatch.setattr(certifying_module, "find_divergence", fail)
    certificate = judge(damage(copy(compiled, tmp_path / "c"), certified.scale("w1", 2)))
    assert certificate.verdict == "fail"
    assert certificate.divergence is not None
    assert certificate.divergence.explanation.endswith("cannot be compared: no inside")


# --- a source that is no ReID network


def test_random_vectors_are_no_better_than_chance(
    people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network whose vectors are a hash of the picture has nothing to lose by compiling."""
    fake_benchmark(monkeypatch)
    tail = [
        helper.make_node("Mul", ["vector", "huge"], ["turns"], "huge"),
        helper.make_node("Sin", ["turns"], ["embedding"], "hash"),
    ]
    package = certified.write_tiny(
        tmp_path / "hash", tail=tail, weights={"huge": np.array(1e4, np.float32)}
    )
    certificate, _ = certify(package, package, people, check=QUICK)
    assert list(failed(certificate)) == ["source finds people"]
    reason = failed(certificate)["source finds people"]
    assert "the source's neighbours are no better than chance: its mAP is" in reason
    assert certificate.verdict == "fail"
    assert certificate.divergence is None


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), people=st.integers(4, 25), each=st.integers(1, 3))
def test_chance_lies_between_random_and_perfect_vectors(seed: int, people: int, each: int) -> None:
    random = np.random.default_rng(seed)

    def make_side(camera: int, *, perfect: bool) -> Embeddings:
        ids = np.repeat(np.arange(1, people + 1), each)
        samples = Samples.from_columns(
            [f"{camera}-{row}.jpg" for row in range(len(ids))], ids, np.full(len(ids), camera)
        )
        vectors = np.eye(people)[ids - 1] if perfect else random.standard_normal((len(ids), 48))
        return Embeddings(vectors.astype(np.float32), samples)

    def make_sides(*, perfect: bool) -> tuple[Embeddings, Embeddings]:
        return make_side(1, perfect=perfect), make_side(2, perfect=perfect)

    best = make_sides(perfect=True)
    evidence = Evidence(*best, *best)
    limit = gates.estimate_chance(evidence)
    by_chance = [scoring.evaluate(*make_sides(perfect=False)).mAP for _ in range(8)]
    assert 0 < limit < 1
    assert np.mean(by_chance) < limit
    assert gates.gate_chance(scoring.evaluate(*best), evidence).verdict == "pass"


# --- calibration, bad input


@pytest.fixture(scope="module")
def int8(source: Package, people: Dataset) -> Package:
    return compile_package(
        source,
        source.folder.parent / "int8",
        target=Target("onnxruntime", "int8"),
        calibration=calibration_of(people),
        accept=lambda candidate: None,
    )


def test_a_healthy_int8_package_passes(
    int8: Package, judge: Callable[[Package], Certificate]
) -> None:
    certificate = judge(int8)
    assert failed(certificate) == {}
    assert certificate.compiled.precision == "int8"


def test_a_package_calibrated_on_what_is_scored_fails(
    int8: Package, judge: Callable[[Package], Certificate], people: Dataset, tmp_path: Path
) -> None:
    package = copy(int8, tmp_path / "c")
    listing = package.folder / "calibration.json"
    pictures = disk.read_json(listing)
    for path in (people.query.paths[3], leave_out_junk(people).gallery.paths[-1]):
        picture = {"name": "innocent.jpg", "sha256": disk.sha256_file(Path(path))}
        pictures["pictures"].append(picture)
    disk.write_json(listing, pictures)
    calibration = disk.sha256_file(listing)
    write_manifest(package.folder, dataclasses.replace(package.spec, calibration=calibration))
    certificate = judge(read_package(package.folder))
    assert list(failed(certificate)) == ["calibration apart"]
    assert failed(certificate)["calibration apart"].startswith("2 pictures of query and gallery")
    assert certificate.divergence is None


def test_packages_that_do_not_belong_together_are_refused(
    compiled: Package, source: Package, people: Dataset, tmp_path: Path
) -> None:
    orphan = dataclasses.replace(compiled.spec, parent_sha256=None)
    changes = {
        "compiled from another package": dataclasses.replace(compiled.spec, parent_sha256="a" * 64),
        "different input contracts": dataclasses.replace(
            orphan, input=dataclasses.replace(orphan.input, colour="bgr")
        ),
        f"gives vectors of 32 numbers, .* of {certified.SIZE}": dataclasses.replace(
            orphan, embedding_size=32
        ),
    }
    for message, spec in changes.items():
        other = write_manifest(copy(compiled, tmp_path / "c").folder, spec)
        with pytest.raises(MismatchError, match=message):
            certify(other, source, people)
        shutil.rmtree(other.folder)


def test_two_packages_the_wrong_way_round_are_refused(
    compiled: Package, source: Package, people: Dataset
) -> None:
    with pytest.raises(MismatchError, match="not the other way round: swap the two"):
        certify(source, compiled, people)


def test_another_size_is_another_contract(
    compiled: Package, people: Dataset, tmp_path: Path
) -> None:
    def orphan(name: str, height: int) -> Package:
        contract = dataclasses.replace(compiled.spec.input, height=height)
        spec = dataclasses.replace(compiled.spec, parent_sha256=None, input=contract)
        return write_manifest(copy(compiled, tmp_path / name).folder, spec)

    with pytest.raises(MismatchError, match=r"different input contracts \(32x16 .*; 64x16 "):
        certify(orphan("a", 32), orphan("b", 64), people)


@pytest.mark.parametrize("call", [certify, find_objection])
def test_a_data_set_without_scores_is_refused_before_anything_is_embedded(
    compiled: Package,
    source: Package,
    people: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., Any],
) -> None:
    monkeypatch.setattr(certifying_module, "gather", None)
    nobody = people.query.select(slice(0, 0))
    ids = np.full(len(people.gallery), JUNK)
    junk = dataclasses.replace(people.gallery, person_ids=ids)
    alone = dataclasses.replace(
        people.gallery, camera_ids=np.ones_like(ids), person_ids=np.ones_like(ids)
    )
    one = people.query.select(slice(0, 1))
    one = dataclasses.replace(one, person_ids=np.array([1]), camera_ids=np.array([1]))
    cases = [
        (dataclasses.replace(people, query=nobody), DatasetError, "query split is empty"),
        (dataclasses.replace(people, gallery=junk), DatasetError, "gallery split is empty"),
        (
            dataclasses.replace(people, query=one, gallery=alone),
            MismatchError,
            "none of the 1 queries can be scored",
        ),
    ]
    for dataset, error, message in cases:
        with pytest.raises(error, match=message):
            call(compiled, source, dataset, check=QUICK)


def test_unreadable_pictures_are_named(
    compiled: Package, source: Package, people: Dataset, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    paths = people.query.paths.copy()
    paths[2] = str(bad)
    dataset = dataclasses.replace(people, query=dataclasses.replace(people.query, paths=paths))
    with pytest.raises(UnreadableImagesError, match=r"bad\.jpg"):
        certify(compiled, source, dataset, check=QUICK)


def test_junk_is_neither_read_nor_part_of_the_data(
    compiled: Package,
    source: Package,
    people: Dataset,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_benchmark(monkeypatch)
    plain = leave_out_junk(people)
    assert len(plain.gallery) < len(people.gallery)
    paths = people.gallery.paths.copy()
    paths[people.gallery.person_ids == JUNK] = "/nowhere/junk.jpg"
    gone = dataclasses.replace(people, gallery=dataclasses.replace(people.gallery, paths=paths))
    check = dataclasses.replace(QUICK, work=work)
    first, _ = certify(compiled, source, gone, check=check)
    second, _ = certify(compiled, source, plain, check=check)
    assert first.data == second.data
    assert first.data["queries"] == str(len(people.query))
    assert first.data["gallery"] == str(len(plain.gallery))


def test_the_fingerprint_of_the_data_follows_pictures_and_labels(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{i}.jpg", seed=i) for i in range(3)]

    def give(paths: list[str], people: list[int]) -> str:
        query = Samples.from_columns(paths[:1], people[:1], [1])
        gallery = Samples.from_columns(paths[1:], people[1:], [2, 3])
        dataset = Dataset("table", query.select(slice(0, 0)), query, gallery)
        return fingerprint(dataset, hash_pictures(dataset))

    right = give(paths, [1, 1, 2])
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    assert give([str(tmp_path / "elsewhere" / Path(path).name) for path in paths], [1, 1, 2]) == (
        right
    )
    assert give(paths, [1, 1, 3]) != right
    assert give([paths[0], paths[2], paths[1]], [1, 1, 2]) != right
    write_picture(Path(paths[2]), seed=99)
    assert give(paths, [1, 1, 2]) != right


@pytest.mark.parametrize(
    "wrong", [{"batches": ()}, {"batches": (4, 0)}, {"seconds": 0.0}, {"seconds": math.nan}]
)
def test_a_check_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Check(**wrong)


def test_speed_that_was_lost_and_layers_in_float_are_warned_of(
    compiled: Package, source: Package, people: Dataset, tmp_path: Path, work: Path
) -> None:
    spec = compiled.spec
    engine = dataclasses.replace(spec.engine, float_layers=("conv1", "conv3"))
    package = write_manifest(
        copy(compiled, tmp_path / "c").folder, dataclasses.replace(spec, engine=engine)
    )
    stranger = dataclasses.replace(people.query, person_ids=people.query.person_ids.copy())
    stranger.person_ids[0] = 10**6
    dataset = dataclasses.replace(people, query=stranger)
    check = dataclasses.replace(QUICK, work=work)
    with pytest.MonkeyPatch.context() as patch:
        fake_benchmark(patch, rates=(100.0, 90.0))
        certificate, _ = certify(package, source, dataset, check=check)
    slower, dropped, floating = certificate.warnings
    assert slower.startswith("the compiled package is slower than its source: 90.0 pictures")
    assert dropped.startswith("1 queries were dropped")
    assert floating == "2 layers stayed in float: conv1, conv3"
    with pytest.MonkeyPatch.context() as patch:
        fake_benchmark(patch, rates=(100.0, 99.0))
        assert certify(compiled, source, people, check=check)[0].warnings == ()


# --- objections, vectors that are found again


def test_an_objection_is_the_reason_of_the_first_gate(
    compiled: Package, source: Package, people: Dataset, work: Path, tmp_path: Path
) -> None:
    check = dataclasses.replace(QUICK, work=work)
    assert find_objection(compiled, source, people, check=check) is None
    harsh = dataclasses.replace(check, limits=Limits(-50, 0.3))
    reason = find_objection(compiled, source, people, check=harsh)
    assert reason is not None
    assert re.match(r"mAP dropped by -?0.00 points, .* at most -50 points are allowed", reason)
    line = damage(copy(compiled, tmp_path / "c"), certified.collapse_to_a_line())
    lenient = dataclasses.replace(check, limits=Limits(100, 100, -1))
    assert "effective rank of 1.0" in (find_objection(line, source, people, check=lenient) or "")


def test_vectors_are_found_again_and_never_mixed_up(
    compiled: Package,
    source: Package,
    people: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_benchmark(monkeypatch)
    check = dataclasses.replace(QUICK, work=tmp_path / "work")
    first, _ = certify(compiled, source, people, check=check)
    vectors = {path: path.read_bytes() for path in (tmp_path / "work").rglob("vectors.npy")}
    times = {path: path.stat().st_mtime_ns for path in vectors}
    assert len(vectors) == 4
    calls: dict[str, list[tuple[int, int]]] = {}

    def watch(stage: str) -> Callable[[int, int], None]:
        return lambda done, total: calls.setdefault(stage, []).append((done, total))

    again, _ = certify(compiled, source, people, check=check, watch=watch)
    assert {path: path.stat().st_mtime_ns for path in vectors} == times
    assert dataclasses.asdict(again.source.scores)["mAP"] == first.source.scores.mAP
    # A bar of vectors that were all there is a full one.
    assert calls["source query"] == [(len(people.query), len(people.query))]
    fewer = dataclasses.replace(people, query=people.query.select(slice(0, 9)))
    other, _ = certify(compiled, source, fewer, check=check)
    assert other.data["queries"] == "9"
    assert len(list((tmp_path / "work").rglob("vectors.npy"))) == 6


def test_a_device_and_threads_reach_the_engines(
    compiled: Package, source: Package, people: Dataset
) -> None:
    setting = Setting(device="nonsense")
    with pytest.raises(ArgumentError, match="device is 'nonsense'"):
        certify(compiled, source, people, check=Check(setting=setting))


# --- agreement, by brute force


VECTORS = npst.arrays(
    np.float32,
    st.tuples(st.integers(2, 12), st.integers(1, 9)),
    elements=st.floats(-10, 10, width=32),
)


@settings(deadline=None)
@given(VECTORS)
def test_the_effective_rank_is_that_of_the_singular_values(vectors: NDArray[np.float32]) -> None:
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    rank = measure_rank(vectors)
    if np.abs(centred).max() <= 1e-5 * max(np.abs(vectors).max(), 1e-30):
        assert rank <= vectors.shape[1]
        return
    shares = values / values.sum()
    shares = shares[shares > 1e-12]
    assert rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    assert 0.999 <= rank <= min(len(vectors) - 1, vectors.shape[1]) + 1e-6


@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, -7e3])
def test_equal_vectors_have_rank_0(value: float) -> None:
    assert measure_rank(np.full((50, 8), value, np.float32)) == 0
    rows = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    assert measure_rank(np.tile(rows, (50, 1))) == 0


def test_the_rank_of_known_shapes() -> None:
    random = np.random.default_rng(0)
    line = np.outer(random.standard_normal(300), random.standard_normal(16))
    assert measure_rank(line.astype(np.float32)) == pytest.approx(1, abs=1e-3)
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    assert measure_rank(square) == pytest.approx(2)
    many = random.standard_normal((5000, 4)).astype(np.float32)
    assert measure_rank(many) == pytest.approx(4, rel=0.01)


@settings(deadline=None)
@given(VECTORS, st.booleans())
def test_the_pair_cosine_is_the_mean_over_all_pairs(
    vectors: NDArray[np.float32], zeros: bool
) -> None:
    if zeros:
        vectors[::2] = 0
    rows = vectors.astype(np.float64)
    cosines = []
    for first, second in itertools.combinations(rows, 2):
        if first.any() and second.any():
            lengths = np.linalg.norm(first) * np.linalg.norm(second)
            cosines.append(first @ second / lengths if lengths > 0 else 0.0)
        else:
            cosines.append(float(not first.any() and not second.any()))
    assert measure_pair_cosine(vectors) == pytest.approx(np.mean(cosines), abs=1e-6)


ROW = st.lists(st.integers(-1, 12), min_size=5, max_size=5, unique=True)


@given(st.lists(st.tuples(ROW, ROW), min_size=1))
def test_the_overlap_is_that_of_sets(pairs: list[tuple[list[int], list[int]]]) -> None:
    first, second = (np.array(rows, np.int64) for rows in zip(*pairs, strict=True))

    def give(rows: NDArray[np.int64]) -> Matches:
        return Matches(rows, np.zeros(rows.shape, np.float32))

    shares = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        one, other = set(a) - {-1}, set(b) - {-1}
        shares.append(len(one & other) / max(len(one), len(other)))
    assert measure_overlap(give(first), give(second)) == pytest.approx(np.mean(shares))
    assert measure_overlap(give(first), give(first)) == 1


def test_queries_without_matches_count_as_equal() -> None:
    none = Matches(np.full((2, 3), -1, np.int64), np.full((2, 3), -np.inf, np.float32))
    assert measure_overlap(none, none) == 1


def test_the_agreement_of_known_vectors() -> None:
    samples = Samples.from_columns(["a", "b"], [1, 2], [1, 1])
    gallery = Samples.from_columns(["c", "d"], [1, 2], [2, 2])
    right = np.eye(2, dtype=np.float32)
    turned = np.array([[0.6, 0.8], [0, 1]], np.float32)
    found = measure_agreement(
        Evidence(
            Embeddings(right, samples),
            Embeddings(right, gallery),
            Embeddings(turned, samples),
            Embeddings(right, gallery),
        )
    )
    np.testing.assert_allclose(found.cosines, [0.6, 1, 1, 1], rtol=1e-6)
    assert found.largest_difference == pytest.approx(0.8)
    assert found.neighbour_overlap == 1  # the same two, in another order


# --- gates


AGREEMENT = Agreement(np.array([0.9, 1.0], np.float32), 0.1, 10, 1.0, 20.0, 20.0, 0.2, 0.2)


def give_gates(**changes: Any) -> dict[str, Gate]:
    agreement = dataclasses.replace(AGREEMENT, **changes)
    found = (
        gates.gate_agreement(agreement, Limits(), "int8"),
        gates.gate_rank(agreement),
        gates.gate_strangers(agreement),
    )
    return {gate.name: gate for gate in found}


@pytest.mark.parametrize(
    ("name", "field", "passes", "fails"),
    [
        ("vectors agree", "cosines", 0.8001, 0.7999),
        ("vectors spread", "compiled_rank", 10.0, 9.99),
        ("strangers stay apart", "compiled_pair_cosine", 0.3, 0.3001),
    ],
)
def test_gates_turn_at_their_limits(name: str, field: str, passes: float, fails: float) -> None:
    def judge(value: float) -> Gate:
        single = np.array([value], np.float32) if field == "cosines" else value
        return give_gates(**{field: single})[name]

    assert (judge(passes).verdict, judge(passes).reason) == ("pass", "")
    assert judge(fails).verdict == "fail"
    assert judge(fails).reason
    assert judge(math.nan).verdict == "fail"


def test_little_is_left_to_lose_where_strangers_are_close_already() -> None:
    def judge(value: float) -> str:
        changed = {"source_pair_cosine": 0.98, "compiled_pair_cosine": value}
        return give_gates(**changed)["strangers stay apart"].verdict

    assert judge(0.989) == "pass"
    assert judge(0.991) == "fail"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_the_cosine_limit_depends_on_the_precision_unless_it_is_given(precision: str) -> None:
    assert (
        gates.gate_agreement(AGREEMENT, Limits(), precision).limit
        == (gates.LOWEST_COSINES[precision])
    )
    given_ = gates.gate_agreement(AGREEMENT, Limits(cosine=0.95), precision)
    assert (given_.limit, given_.verdict) == (0.95, "fail")
    assert given_.reason.startswith("1 of 2 pictures have a cosine below 0.95")


@given(
    before=st.floats(0, 1),
    after=st.floats(0, 1),
    limit=st.floats(-100, 100),
)
def test_a_drop_is_measured_in_points(before: float, after: float, limit: float) -> None:
    gate = gates._gate_drop("mAP kept", "mAP", (before, after), limit)
    drop = 100 * before - 100 * after
    assert gate.value == pytest.approx(drop)
    if abs(drop - limit) > 1e-6:
        assert (gate.verdict == "pass") == (drop < limit)
    assert gates._gate_drop("mAP kept", "mAP", (math.nan, after), limit).verdict == "fail"


def test_the_worst_batch_size_is_named() -> None:
    checks = [
        BatchCheck(1, 2, 1, 1.0, 1.0),
        BatchCheck(4, 6, 2, 0.97, 0.97),
        BatchCheck(8, 12, 4, 0.95, 0.99),
    ]
    assert gates.gate_batches(checks[:1]).verdict == "pass"
    assert "in batches of 4, in the short last one of 2 " in gates.gate_batches(checks[:2]).reason
    assert "in batches of 8 a picture's" in gates.gate_batches(checks).reason
    assert gates.gate_batches([BatchCheck(4, 6, 2, math.nan, math.nan)]).verdict == "fail"


# --- certificate.json


def list_keys(value: object) -> set[str]:
    """Give every key of a JSON value, but for those of free tables."""
    if isinstance(value, list):
        return set().union(*map(list_keys, value)) if value else set()
    if isinstance(value, dict):
        return set(value).union(*map(list_keys, value.values()))
    return set()


@pytest.fixture
def documents(
    compiled: Package, judge: Callable[[Package], Certificate], tmp_path: Path
) -> list[dict[str, Any]]:
    """The JSON of a certificate that passes, one of a wrong layer and one of another shape."""
    scaled = judge(damage(copy(compiled, tmp_path / "c"), certified.scale("w2", 2)))
    assert scaled.divergence is not None
    error = dataclasses.replace(scaled.divergence.layers[0], error=math.inf)
    divergence = dataclasses.replace(scaled.divergence, layers=(error,), first=None)
    endless = dataclasses.replace(scaled, divergence=divergence)
    return [certificate_as_json(each) for each in (judge(compiled), scaled, endless)]


def test_a_certificate_is_plain_json(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert json.loads(json.dumps(document, allow_nan=False)) == document
        assert document["format"] == 1
        assert document["verdict"] in ("pass", "fail")
        for gate in document["gates"]:
            assert list(gate) == ["name", "limit", "value", "verdict", "reason"]
            assert gate["verdict"] in ("pass", "fail")
            assert (gate["reason"] == "") == (gate["verdict"] == "pass")
    assert [document["verdict"] for document in documents] == ["pass", "fail", "fail"]
    healthy, scaled, endless = documents
    assert healthy["divergence"] is None
    assert scaled["divergence"]["first"] == "conv2"
    assert endless["divergence"]["first"] is None
    assert endless["divergence"]["layers"][0]["error"] is None
    histogram = healthy["agreement"]["histogram"]
    assert sum(histogram["counts"]) == healthy["agreement"]["pictures"]
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert 0 < healthy["source"]["scores"]["rank1"] <= healthy["source"]["scores"]["rank5"] <= 1


def test_every_key_is_documented(documents: list[dict[str, Any]]) -> None:
    page = Path(__file__).parent.parent / "docs" / "certificate.md"
    if not page.exists():
        pytest.skip("docs/certificate.md is not written yet")
    mentioned = set(re.findall(r"\w+", page.read_text()))
    free = set().union(*(document["versions"] for document in documents))
    assert list_keys(documents) - free <= mentioned
