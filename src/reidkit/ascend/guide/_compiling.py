"""The guide's compiled files, one a batch size, made once."""

from __future__ import annotations

from pathlib import Path

from reidkit import disk
from reidkit.ascend.compiler._atc import run_atc
from reidkit.ascend.compiler._real import find_tool
from reidkit.ascend.guide._run import NETWORK, Guide
from reidkit.ascend.soc import find_soc
from reidkit.errors import CompileError

_ANY_CHIP = "Ascend310P3"
"""The chip that is named where no real compiler is there to care."""


def compile_once(guide: Guide, batch: int) -> Path:
    """Compile the guide's network for a batch size, unless an earlier run has.

    Raises:
        CompileError: with what the compiler printed.
    """
    file = guide.out / f"ReID_bs{batch}.om"
    name = f"compile-bs{batch}"
    tool = find_tool("atc")
    soc = guide.settings.soc_version or (_ANY_CHIP if tool is None else find_soc().name)
    arguments = _arguments(guide, batch, soc)
    version = disk.sha256_json([soc, str(tool)])  # the network is in the steps' identity

    def compute() -> dict[str, object]:
        progress = guide.watch(f"atc, batch {batch}")
        _compile(arguments)
        if progress is not None:
            progress(1, 1)
        return {"sha256": disk.sha256_file(file)}

    found = guide.steps.find(name, version, compute)
    if not file.is_file() or disk.sha256_file(file) != found["sha256"]:
        guide.steps.forget(name)
        guide.steps.find(name, version, compute)
    return file


def _arguments(guide: Guide, batch: int, soc: str) -> list[str]:
    contract = guide.package.spec.input
    return [
        "--framework=5",
        f"--model={guide.out / NETWORK}",
        f"--output={guide.out / f'ReID_bs{batch}'}",
        "--input_format=NCHW",
        f"--input_shape=image:{batch},3,{contract.height},{contract.width}",
        "--log=error",
        f"--soc_version={soc}",
    ]


def _compile(arguments: list[str]) -> None:
    printed: list[str] = []
    code = run_atc(arguments, write=printed.append, remark=printed.append)
    if code:
        raise CompileError(f"atc {' '.join(arguments)} ended with {code}: {''.join(printed)}")
