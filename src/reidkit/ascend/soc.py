"""The name of this machine's Ascend chip, as the compiler's `--soc_version` takes it.

The toolkit knows it; otherwise `npu-smi`, the driver's own tool, shows parts of it in its tables.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from reidkit.errors import AscendError
from reidkit.runtimes._ascend import soc_name

_HEALTHS = ("ok", "warning", "alarm", "critical", "unknown")

_PATIENCE = 60.0
"""Seconds: a driver in trouble may let its tool wait for ever."""

_PLACES = ("/usr/local/sbin", "/usr/local/bin")
"""Where the driver puts its tool; the first is not on every user's PATH."""

_SHORT_NAME = re.compile(r"Ascend910|Ascend950(PR|DT)")
"""What the tables call chips whose full name has a number that only the board's page shows."""

_CAUSES = (
    "causes: this user is neither root nor in the driver's group (HwHiAiUser); a container or "
    "sandbox without /dev/davinci* and the driver's folders; a machine that was not restarted "
    "after its driver or firmware was updated"
)


@dataclass(frozen=True, slots=True)
class Chip:
    """One chip.

    Fields:
        npu_id: the card's number in the driver's tool; these need not start at 0.
        chip_id: the chip's number on its card.
        logic_id: the number that `--device` takes.
        name: such as `Ascend310P3`.
        health: OK, Warning, Alarm, Critical or UNKNOWN.
    """

    npu_id: int
    chip_id: int
    logic_id: int
    name: str
    health: str


@dataclass(frozen=True, slots=True)
class Soc:
    """The chip's full name, what said it, the chips that are there, and what a user should know."""

    name: str
    source: str
    chips: tuple[Chip, ...]
    remarks: tuple[str, ...]


def find_soc(*, device: int | None = None) -> Soc:
    """Find the name of this machine's chip; `device` chooses one where there are several kinds.

    Raises:
        AscendError: there is no chip, or it cannot be reached; the message names the causes.
    """
    toolkit = soc_name()
    try:
        chips = _list_chips()
    except AscendError:
        if toolkit is None:
            raise
        chips = ()  # the toolkit's word is enough
    if toolkit is not None and device is None and len({chip.name for chip in chips}) < 2:
        return _describe(toolkit, "pyACL", chips)
    return _choose(chips, device, "npu-smi")


def read_soc(text: str, *, device: int | None = None) -> Soc:
    """Find the chip's name in saved output of `npu-smi info` or `npu-smi info -m`.

    For chips whose tables do not show their full name the output of `npu-smi info -t board` has
    to follow in the same text.

    Raises:
        AscendError: it shows no chip, or not its full name.
    """
    chips = _merge(parse_npu_smi(text), parse_chip_map(text))
    if not chips:
        raise AscendError(_explain("the text", text))
    return _choose(_complete(chips, lambda _: text), device, "saved output of npu-smi")


def parse_npu_smi(text: str) -> tuple[Chip, ...]:
    """Read the table of `npu-smi info`, whatever its release: two lines a chip, cells between `|`.

    Where it has no column Device, `logic_id` is the chip's place in the table.
    """
    chips: list[Chip] = []
    waiting: Chip | None = None
    has_device = False
    for line in text.splitlines():
        if "Process id" in line or "No running process" in line:
            break  # the second table lists processes
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.strip().startswith("|") or len(cells) < 2:
            continue
        first = _read_first_line(cells, len(chips) + (waiting is not None))
        numbers = cells[0].split()
        if first is not None:
            chips += [waiting] if waiting is not None else []
            waiting = first
        elif numbers[:1] == ["Chip"]:
            has_device = "Device" in numbers
        elif waiting is not None and all(word.isdecimal() for word in numbers):
            chip_id = int(numbers[0]) if numbers else 0
            shown = has_device and len(numbers) > 1
            logic_id = int(numbers[1]) if shown else waiting.logic_id
            chips.append(replace(waiting, chip_id=chip_id, logic_id=logic_id))
            waiting = None
    return tuple(chips + ([waiting] if waiting is not None else []))


def parse_chip_map(text: str) -> tuple[Chip, ...]:
    """Read the table of `npu-smi info -m`; it does not say the health.

    Rows of controllers that compute nothing (no logic id, or named Mcu) are left out.
    """
    chips = []
    leading = 0
    for line in text.splitlines():
        words = line.split()
        if "Chip Logic ID" in line:
            leading = 4 if "Phy-ID" in line else 3
        elif leading and len(words) > leading and all(word.isdecimal() for word in words[:3]):
            name = _full_name(words[leading:])
            if "Mcu" not in name:
                npu_id, chip_id, logic_id = map(int, words[:3])
                chips.append(Chip(npu_id, chip_id, logic_id, name, "UNKNOWN"))
    return tuple(chips)


def _read_first_line(cells: Sequence[str], place: int) -> Chip | None:
    """Read a chip's first line: card number and name, in one cell or two, then the health."""
    for index, cell in enumerate(cells):
        if cell.lower() in _HEALTHS:
            words = " ".join(cells[:index]).split()
            if len(words) > 1 and words[0].isdecimal():
                return Chip(int(words[0]), 0, place, _full_name(words[1:]), cell)
    return None


def _full_name(words: Sequence[str]) -> str:
    name = "".join(words)
    return name if name.startswith("Ascend") else f"Ascend{name}"


def _list_chips() -> tuple[Chip, ...]:
    text = _ask("info")
    try:
        mapped = parse_chip_map(_ask("info", "-m"))
    except AscendError:
        mapped = ()  # a release without it
    chips = _merge(parse_npu_smi(text), mapped)
    if not chips:
        raise AscendError(_explain("npu-smi info", text))

    def read_board(chip: Chip) -> str:
        return _ask("info", "-t", "board", "-i", str(chip.npu_id), "-c", str(chip.chip_id))

    return _complete(chips, read_board)


def _merge(table: Sequence[Chip], mapped: Sequence[Chip]) -> tuple[Chip, ...]:
    """Take numbers from the chip map, health from the table, and the longer form of the name."""
    if not mapped:
        return tuple(table)
    shown = {(chip.npu_id, chip.chip_id): chip for chip in table}
    merged = []
    for chip in mapped:
        other = shown.get((chip.npu_id, chip.chip_id), chip)
        name = other.name if other.name.startswith(chip.name) else chip.name
        merged.append(replace(chip, name=name, health=other.health))
    return tuple(merged)


def _complete(chips: Sequence[Chip], read_board: Callable[[Chip], str]) -> tuple[Chip, ...]:
    """Add to short names the number that the board's page shows."""
    full: dict[str, str] = {}
    for chip in chips:
        if chip.name not in full and _SHORT_NAME.fullmatch(chip.name):
            found = re.search(r"^\s*NPU Name\s*:\s*(\S+)\s*$", read_board(chip), re.MULTILINE)
            if found is None or found[1] in ("NA", "-"):
                query = f"npu-smi info -t board -i {chip.npu_id} -c {chip.chip_id}"
                raise AscendError(
                    f"the chip is a {chip.name}, whose full name has a number after it, the NPU "
                    f"Name that `{query}` shows (as root): --soc_version={chip.name}_<NPU Name>; "
                    "in a file with saved output that page has to follow"
                )
            full[chip.name] = f"{chip.name}_{found[1]}"
    return tuple(replace(chip, name=full.get(chip.name, chip.name)) for chip in chips)


def _choose(chips: Sequence[Chip], device: int | None, source: str) -> Soc:
    names = {chip.name for chip in chips if device in (None, chip.logic_id)}
    if len(names) == 1:
        return _describe(names.pop(), source, chips)
    there = ", ".join(f"{chip.logic_id} is {chip.name}" for chip in chips) or "none is listed"
    if device is not None:
        raise AscendError(f"there is no chip number {device} here: {there}")
    raise AscendError(
        f"there are several kinds of chip here, {there}: choose one with --device NUMBER"
    )


def _describe(name: str, source: str, chips: Sequence[Chip]) -> Soc:
    remarks = [
        f"chip {chip.logic_id} ({chip.name}) reports its health as {chip.health}"
        for chip in chips
        if chip.health.lower() not in ("ok", "unknown")
    ]
    if name == "Ascend910B":
        remarks.append(
            "Ascend910B without a digit is a chip of the first 910 generation, not of the series "
            "910B1 to 910B4: a model compiled for the one does not run on the other"
        )
    return Soc(name, source, tuple(chips), tuple(remarks))


def _ask(*arguments: str) -> str:
    """Run npu-smi and give what it prints."""
    command = " ".join(("npu-smi", *arguments))
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_PLACES))
    program = shutil.which("npu-smi", path=path)
    if program is None:
        raise AscendError(
            "no Ascend chip is visible here: there is neither pyACL (module acl) nor the driver's "
            "npu-smi. On the machine with the chip, `npu-smi info` shows its name; save its output "
            "and give it with --file, or name the chip yourself: --soc_version=Ascend310P3"
        )
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AscendError(f"{command} gave no answer in {_PATIENCE:.0f} s; {_CAUSES}") from error
    except OSError as error:
        raise AscendError(f"{command} does not start: {error}") from error
    if done.returncode != 0:
        raise AscendError(_explain(command, done.stdout))
    return done.stdout


def _explain(command: str, text: str) -> str:
    said = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "nothing")
    if re.search(r"dcmi mod|DrvMng|ret is -|/dev/davinci", text):
        return f"{command} says {said!r}: the driver cannot be reached; {_CAUSES}"
    return f"{command} shows no chip: it ends with {said!r}; {_CAUSES}"
