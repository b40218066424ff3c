"""From a checkpoint to a signed-off folder: export, compile, certify, report.

    package/                 the source package
    <target>-<precision>/    compiled/ (the package to ship), certificate.json, report.html
    work/                    the vectors the certificates rest on; safe to delete

Each step writes whole or not at all and finds what an earlier, killed run had finished, so that
the same call goes on where that stopped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import reidkit
from reidkit import checkpoints, disk, reports
from reidkit.certifying import (
    Certificate,
    Check,
    Evidence,
    certificate_as_json,
    certify,
    find_objection,
)
from reidkit.certifying import Watch as Watch
from reidkit.compiling import Target, calibration_of, compile_package, read_calibration
from reidkit.errors import ReidkitError
from reidkit.exporting import export_package
from reidkit.package import InputSpec, Package, read_package
from reidkit.records import Dataset

PACKAGE, WORK, COMPILED = "package", "work", "compiled"
CERTIFICATE, REPORT = "certificate.json", "report.html"


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """One compiled package and its certificate; `folder` holds both and the report."""

    folder: Path
    compiled: Package
    certificate: Certificate


def export_once(
    checkpoint: str | Path,
    out: str | Path,
    *,
    architecture: str | None = None,
    last_stride: int = 1,
    contract: InputSpec | None = None,
) -> Package:
    """Make `OUT/package` from a checkpoint, or give the one that an earlier run made from it.

    Parameters and errors are those of `exporting.export_package`. A package there that was made
    from another checkpoint, or in another way, is replaced.
    """
    folder = Path(out) / PACKAGE
    contract = contract or InputSpec()
    read = checkpoints.read(checkpoint)
    expected = {
        "source_sha256": read.sha256,
        "last_stride": str(last_stride),
        "reidkit": reidkit.__version__,
    }
    found = _read_if_whole(folder)
    if (
        found is not None
        and expected.items() <= found.spec.provenance.items()
        and architecture in (None, found.spec.architecture)
        # A network without BNNeck has the neck `output`, whatever was asked for.
        and found.spec.input in (contract, dataclasses.replace(contract, neck="output"))
    ):
        return found
    return export_package(
        checkpoint,
        folder,
        architecture=architecture,
        last_stride=last_stride,
        contract=contract,
        overwrite=True,
    )


def deploy(
    package: Package,
    dataset: Dataset,
    out: str | Path,
    *,
    target: Target,
    check: Check | None = None,
    watch: Watch | None = None,
) -> Deployment:
    """Compile a package for a target and certify it; int8 is calibrated on the training split.

    An int8 candidate that the certificate would fail is made again with more layers in float,
    until it passes or none are left.

    Raises:
        CompileError: the target does not work here, or int8 cannot meet the limits.
        CalibrationError: the training split has too few pictures for int8.
        Whatever `certifying.certify` raises.
    """
    out = Path(out)
    check = dataclasses.replace(check or Check(), work=out / WORK)
    folder = out / f"{target.name}-{target.precision}"

    def judge(candidate: Package) -> str | None:
        return find_objection(candidate, package, dataset, check=check, watch=watch)

    compiled = _compile_once(package, dataset, folder, target, judge)
    certificate, evidence = certify(compiled, package, dataset, check=check, watch=watch)
    write_certificate(folder, certificate, evidence)
    return Deployment(folder, compiled, certificate)


def write_certificate(folder: str | Path, certificate: Certificate, evidence: Evidence) -> None:
    """Write `report.html` and then `certificate.json` into a folder, replacing older ones."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A certificate that is there vouches for a report that is.
    (folder / CERTIFICATE).unlink(missing_ok=True)
    reports.write_certificate_report(folder / REPORT, certificate, evidence)
    disk.write_json(folder / CERTIFICATE, certificate_as_json(certificate))


def _compile_once(
    package: Package,
    dataset: Dataset,
    folder: Path,
    target: Target,
    judge: Callable[[Package], str | None],
) -> Package:
    """Compile, or give what an earlier run finished, if it still is what would come out."""
    calibration = calibration_of(dataset) if target.precision == "int8" else None
    accept = judge if calibration is not None else None
    found = _read_if_whole(folder / COMPILED)
    if (
        found is not None
        and _is_compiled_from(found, package, target)
        and read_calibration(found.folder) == frozenset(calibration.hashes if calibration else ())
        and (accept is None or accept(found) is None)
    ):
        return found
    # Nothing in the folder may vouch for a package that it does not describe.
    for name in (CERTIFICATE, REPORT):
        (folder / name).unlink(missing_ok=True)
    return compile_package(
        package,
        folder / COMPILED,
        target=target,
        calibration=calibration,
        accept=accept,
        overwrite=True,
    )


def _is_compiled_from(found: Package, package: Package, target: Target) -> bool:
    engine = found.spec.engine
    return (
        found.spec.parent_sha256 == package.spec.engine.identity
        and found.spec.input == package.spec.input
        and found.spec.provenance.get("reidkit") == reidkit.__version__
        and (engine.target, engine.precision) == (target.name, target.precision)
        and engine.batch == (target.batch or package.spec.engine.batch)
        and engine.device in (target.device, target.name)  # tensorrt has a device of its own
    )


def _read_if_whole(folder: Path) -> Package | None:
    """Read the package that a run left there, `None` where it is missing or damaged."""
    if not folder.exists():
        return None
    try:
        return read_package(folder)
    except ReidkitError:
        return None  # it is made again, which reports what cannot be replaced
