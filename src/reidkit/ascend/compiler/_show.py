"""`atc --mode=6`: what an `.om` file says of itself."""

from __future__ import annotations

from pathlib import Path

from reidkit.ascend import _om
from reidkit.errors import AscendError
from reidkit.runtimes.sessions import TensorSpec


def show_om(path: Path) -> str:
    """Describe a substitute `.om` file in lines of text.

    Raises:
        AscendError: it is a file of the real compiler, or no .om file at all.
        FormatError, IntegrityError: it is damaged, or of another format number.
    """
    if path.is_file() and not _om.is_substitute(path):
        raise AscendError(
            f"{path} is not an .om file of reidkit ascend atc: the real atc shows one that it made"
        )
    header, record = _om.read_header(path), _om.read_record(path)
    lines = [
        "============ Display Model Info start ============",
        f"made by: {', '.join(f'{name} {version}' for name, version in header.made_by.items())}",
        f"options: {' '.join(f'--{name}={value}' for name, value in header.options.items())}",
        f"source: {header.source}, sha256 {header.source_sha256}",
        f"compiled for: {record['runtime']} {record['precision']} on {record['device']}",
        f"soc_version: {header.options.get('soc_version', 'none')}",
        *(f"input {i}: {_show(tensor)}" for i, tensor in enumerate(header.inputs)),
        *(f"output {i}: {_show(tensor)}" for i, tensor in enumerate(header.outputs)),
    ]
    if header.gears:
        lines.append(f"batch sizes: {', '.join(map(str, header.gears))}")
    if header.aipp is not None:
        lines.append("takes pixels, static AIPP")
    lines.append("============ Display Model Info end   ============")
    return "\n".join(lines) + "\n"


def _show(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype.name} {list(tensor.shape)}"
