"""The certificate: the compiled file itself is scored, and nothing is accepted on faith."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

import reidkit
from reidkit import preprocess, scoring
from reidkit.benchmarking import Speed, benchmark
from reidkit.certifying import _gates as gates
from reidkit.certifying._agreement import measure_agreement
from reidkit.certifying._batches import check_batches
from reidkit.certifying._certificate import (
    Agreement,
    BatchCheck,
    Certificate,
    Check,
    Divergence,
    Evidence,
    Gate,
    Limits,
    Side,
    Watch,
)
from reidkit.certifying._company import find_batch_divergence
from reidkit.certifying._data import (
    count_calibrated,
    describe_data,
    hash_pictures,
    leave_out_junk,
)
from reidkit.certifying._gathering import gather
from reidkit.certifying._pairing import check_pair, check_scored
from reidkit.certifying._walking import find_divergence
from reidkit.errors import EngineError
from reidkit.package import Package
from reidkit.records import Dataset, Scores

_WALKED = 4
"""Pictures that a walk through the layers compares."""

_MOST_IN_COMPANY = 16
"""The same where it looks for the layer that mixes a batch: memory grows with them."""

_SLOWER = 0.98


def certify(
    compiled: Package,
    source: Package,
    dataset: Dataset,
    *,
    check: Check | None = None,
    watch: Watch | None = None,
) -> tuple[Certificate, Evidence]:
    """Score a compiled package against the package it was made from, and time both.

    Both embed query and gallery of the data set. The certificate fails where a gate fails; a
    failed one says where the compiled network leaves its source.

    Raises:
        MismatchError: the two do not belong together, or no query of the data set can be scored.
        DatasetError: query or gallery is empty.
        UnreadableImagesError: naming every picture that could not be decoded.
        EngineError: an engine failed, or gave NaN or infinity.
    """
    check, watch = check or Check(), watch or _unwatched
    check_pair(compiled, source)
    dataset = leave_out_junk(dataset)
    trial = _try(compiled, source, dataset, check, watch)
    paths = [*dataset.query.paths, *dataset.gallery.paths]
    batches = check_batches(compiled, paths, check, watch("batch sizes"))
    hashes = hash_pictures(dataset)
    found = (
        gates.gate_chance(trial.before, trial.evidence),
        *trial.judge(compiled, check.limits),
        gates.gate_batches(batches),
        gates.gate_calibration(count_calibrated(compiled, hashes)),
    )
    speeds = _time(compiled, source, dataset, check, watch)
    sides = (
        _describe(source, trial.before, speeds[0]),
        _describe(compiled, trial.after, speeds[1]),
    )
    certificate = Certificate(
        verdict="pass" if all(gate.verdict == "pass" for gate in found) else "fail",
        gates=found,
        source=sides[0],
        compiled=sides[1],
        agreement=trial.agreement,
        batches=batches,
        divergence=_walk(compiled, source, trial, found, batches),
        contract=source.spec.input.describe(),
        contract_sha256=source.spec.input.sha256,
        data=describe_data(dataset, hashes),
        versions=_list_versions(sides),
        warnings=_warn(*sides),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    return certificate, trial.evidence


def find_objection(
    candidate: Package,
    source: Package,
    dataset: Dataset,
    *,
    check: Check,
    watch: Watch | None = None,
) -> str | None:
    """Say why a candidate would fail its certificate for accuracy, `None` where it would not.

    Nothing is timed; `certify` finds the vectors in `check.work` again. The limits are those of
    the gates, the first failed one's reason comes back.

    Raises:
        What `certify` raises.
    """
    check_pair(candidate, source)
    trial = _try(candidate, source, leave_out_junk(dataset), check, watch or _unwatched)
    failed = (gate for gate in trial.judge(candidate, check.limits) if gate.verdict == "fail")
    return next((gate.reason for gate in failed), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Trial:
    """Both packages' vectors, and what they are worth before and after compiling."""

    evidence: Evidence
    before: Scores
    after: Scores
    agreement: Agreement

    def judge(self, compiled: Package, limits: Limits) -> tuple[Gate, ...]:
        """Give the gates that a better compilation could pass."""
        return (
            gates.gate_map(self.before, self.after, limits),
            gates.gate_rank1(self.before, self.after, limits),
            gates.gate_agreement(self.agreement, limits, compiled.spec.engine.precision),
            gates.gate_rank(self.agreement),
            gates.gate_strangers(self.agreement),
        )


def _try(
    compiled: Package, source: Package, dataset: Dataset, check: Check, watch: Watch
) -> _Trial:
    check_scored(dataset)
    evidence = gather(compiled, source, dataset, check, watch)
    return _Trial(
        evidence,
        scoring.evaluate(evidence.source_query, evidence.source_gallery),
        scoring.evaluate(evidence.compiled_query, evidence.compiled_gallery),
        measure_agreement(evidence),
    )


def _time(
    compiled: Package, source: Package, dataset: Dataset, check: Check, watch: Watch
) -> list[Speed]:
    """Time the source and the compiled package, in this order."""
    fixed = [package.spec.engine.batch for package in (source, compiled)]
    return benchmark(
        [source, compiled],
        dataset.query,
        batches=sorted({*check.batches, *(batch for batch in fixed if batch is not None)}),
        seconds=check.seconds,
        setting=check.setting,
        progress=watch("timing"),
    )


def _walk(
    compiled: Package,
    source: Package,
    trial: _Trial,
    found: Sequence[Gate],
    batches: Sequence[BatchCheck],
) -> Divergence | None:
    """Look for the layer at fault where a gate says that there is one."""
    failed = {gate.name for gate in found if gate.verdict == "fail"}
    failed -= {gates.CHANCE, gates.CALIBRATION}
    if not failed:
        return None
    try:
        # Pictures that mix in a batch spoil every other gate too, so this cause comes first.
        if gates.BATCHES in failed:
            pictures = _choose_pictures(trial, _count_company(batches))
            mixed = find_batch_divergence(compiled, source, pictures)
            if mixed.first is not None or failed == {gates.BATCHES}:
                return mixed
        return find_divergence(compiled, source, _choose_pictures(trial, _WALKED))
    except EngineError as error:
        reason = f"the inner values of the two files cannot be compared: {error}"
        return Divergence(None, 0.0, (), reason)


def _count_company(batches: Sequence[BatchCheck]) -> int:
    """Give the size of the batch that went wrong most, as far as memory allows."""
    worst = gates.find_worst(batches)
    size = worst.batch if worst.cosine < worst.last_cosine else worst.last
    return min(_MOST_IN_COMPANY, size)


def _choose_pictures(trial: _Trial, count: int) -> list[NDArray[np.uint8]]:
    """Decode pictures whose vectors differ most, and as many that stand for the rest."""
    evidence = trial.evidence
    paths = [*evidence.source_query.samples.paths, *evidence.source_gallery.samples.paths]
    worst = np.argsort(trial.agreement.cosines, kind="stable")[: count // 2]
    rest = np.linspace(0, len(paths) - 1, num=2 * count).astype(int)
    rows = list(dict.fromkeys([*worst.tolist(), *rest.tolist()]))[:count]
    return [preprocess.decode(paths[row]) for row in rows]


def _describe(package: Package, scores: Scores, speed: Speed) -> Side:
    engine = package.spec.engine
    return Side(
        name=package.spec.name,
        sha256=engine.identity,
        precision=engine.precision,
        runtime=speed.runtime,
        device=speed.device,
        batch=engine.batch,
        float_layers=engine.float_layers,
        scores=scores,
        speed=speed,
    )


def _list_versions(sides: Sequence[Side]) -> Mapping[str, str]:
    found = {"reidkit": reidkit.__version__, "python": platform.python_version()}
    for name in dict.fromkeys(["numpy", "pillow", *(side.runtime for side in sides)]):
        found[name] = _find_version(name)
    return found


def _find_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        # The GPU builds of onnxruntime are distributions of other names.
        owners = metadata.packages_distributions().get(name, ())
        return next((metadata.version(owner) for owner in owners), "unknown")


def _warn(source: Side, compiled: Side) -> tuple[str, ...]:
    warnings = []
    before, after = (
        max(speed.engine_rate for speed in side.speed.batches) for side in (source, compiled)
    )
    if after < _SLOWER * before:
        warnings.append(
            f"the compiled package is slower than its source: {after:,.1f} pictures a second at "
            f"its best batch size, the source {before:,.1f}"
        )
    dropped = source.scores.dropped
    if dropped.total:
        warnings.append(f"{dropped.total} queries were dropped: {dropped.describe()}")
    if compiled.float_layers:
        count = len(compiled.float_layers)
        warnings.append(f"{count} layers stayed in float: {', '.join(compiled.float_layers)}")
    return tuple(warnings)


def _unwatched(stage: str) -> None:
    """Show nothing."""
