"""The chip's name: from the toolkit, and from the driver's tables in all their forms."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from reidkit.ascend import soc
from reidkit.ascend.soc import Chip, find_soc, parse_chip_map, parse_npu_smi, read_soc
from reidkit.cli.ascend.soc import command
from reidkit.errors import AscendError
from tests.fake_acl import FakeAcl, install

NO_BANNER = """
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 15.8         42                0    / 0              |
| 0       0         | 0000:82:00.0    | 0            1074 / 21534                            |
+===================+=================+======================================================+
| 1       310P3     | OK              | 15.4         43                0    / 0              |
| 0       1         | 0000:89:00.0    | 0            1070 / 21534                            |
+===================+=================+======================================================+
"""

BANNER = """
+--------------------------------------------------------------------------------------------+
| npu-smi 22.0.0                       Version: 22.0.2                                       |
+-------------------+-----------------+------------------------------------------------------+
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 0       310P3     | OK              | 17.2         50                0    / 0              |
| 0       0         | 0000:3B:00.0    | 0            934  / 23054                            |
+===================+=================+======================================================+
"""

HIGH_ID = """
| npu-smi 22.0.2                       Version22.0.4                                         |
| NPU     Name          | Health        | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device        | Bus-Id        | AICore(%)    Memory-Usage(MB)                        |
+=======================+===============+======================================================+
| 2144    310P3         | OK            | NA           47                0    / 0              |
| 0       0             | 0000:86:00.0  | 0            1807 / 21527                            |
+=======================+===============+======================================================+
"""

NO_BUS = """
| npu-smi 23.0.rc3                             Version: 23.0.rc3                               |
+-------------------------------+-----------------+--------------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)   Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)              |
+===============================+=================+============================================+
| 0       310B1                 | OK              | 9.2          53                15    / 15  |
| 0       0                     | NA              | 0            3841 / 11577                  |
+===============================+=================+============================================+
"""

PROCESSES = """
+------------------------------------------------------------------------------------------+
| npu-smi 23.0.0                                   Version: 23.0.0                         |
+-------------------------------+-----------------+----------------------------------------+
| NPU     Name                  | Health          | Power(W)     Temp(C)    Hugepages-Usage(page)|
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)          |
+===============================+=================+========================================+
| 24      310P3                 | Alarm           | NA           44                0     / 0|
| 0       0                     | 0000:01:00.0    | 0            1569 / 21525              |
+===============================+=================+========================================+
+-------------------------------+-----------------+----------------------------------------+
| NPU     Chip                  | Process id      | Process name             | Process memory(MB)|
+===============================+=================+========================================+
| 24      0                     | 1444272         | OK                       | 60970       |
+===============================+=================+========================================+
"""


HBM = """
| npu-smi 23.0.7                   Version: 23.0.7                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 102.8       55                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3338 / 65536         |
+===========================+===============+====================================================+
| 5     910B3               | Warning       | 95.1        51                0    / 0             |
| 0                         | 0000:01:00.0  | 0           0    / 0          54672/ 65536         |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
"""

TWO_DIES = """
| npu-smi 24.1.rc3.7               Version: 24.1.rc3.7                                         |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     Ascend910           | OK            | 178.8       36                0    / 0             |
| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3421 / 65536         |
+------------------------------------------------------------------------------------------------+
| 0     Ascend910           | OK            | -           36                0    / 0             |
| 1     1                   | 0000:9F:00.0  | 0           0    / 0          3193 / 65536         |
+===========================+===============+====================================================+
"""

TRAINING = """
| NPU     Name     | Health        | Power(W)   Temp(C)               Hugepages-Usage(page) |
| Chip    Device   | Bus-Id        | AICore(%)  Memory-Usage(MB)  HBM-Usage(MB)             |
+==================+===============+=========================================================+
| 0       910A     | OK            | 69.5       40                    0    / 0              |
| 0       0        | 0000:C1:00.0  | 0          654  / 15039      0    / 32768              |
"""

SEPARATE = """
+--------+------------------+---------------+-----------------------------------------------------+
| NPU ID | Name             | Health        | Power(W)    Temp(C)           Hugepages-Usage(page) |
|        |                  | Bus-Id        | NPU Util(%) Memory-Usage(MB)  HBM-Usage(MB)         |
+========+==================+===============+=====================================================+
| 0      | Ascend950PR      | OK            | 187.1       46                0     / 0             |
|        |                  | 0000:01:00.0  | 0           0    / 0          6620  / 131072        |
+========+==================+===============+=====================================================+
| 1      | Ascend950PR      | OK            | 188.7       46                0     / 0             |
|        |                  | NA            | 0           0    / 0          6056  / 131072        |
+========+==================+===============+=====================================================+
+----------------+---------------+-------------------------------------+
| NPU ID         | Process id    | Process name        | Process memory |
"""

FOUR_CHIPS = """
| NPU     Name      | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device    | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===================+=================+======================================================+
| 3       310       | OK              | 12.8         50                0    / 969            |
| 0       0         | 0000:05:00.0    | 0            621  / 8192                             |
+-------------------+-----------------+------------------------------------------------------+
| 3       310       | OK              | 12.8         49                0    / 969            |
| 1       1         | 0000:06:00.0    | 0            621  / 8192                             |
+-------------------+-----------------+------------------------------------------------------+
| 3       310       | OK              | 12.8         49                0    / 969            |
| 2       2         | 0000:07:00.0    | 0            621  / 8192                             |
+-------------------+-----------------+------------------------------------------------------+
| 3       310       | OK              | 12.8         49                0    / 969            |
| 3       3         | 0000:08:00.0    | 0            621  / 8192                             |
"""

ONE_LINE = "| 0 | 910B | OK | 70.2 | 52 |\n| 1 | 910B | OK | 69.0 | 51 |\n"

BOARD = """
\tNPU ID                         : 0
\tProduct Name                   : NA
\tChip Type                      : Ascend
\tChip Name                      : Ascend910
\tNPU Name                       : 9392
"""

MAP_910 = """
\tNPU ID             Chip ID            Chip Logic ID    Chip Name
\t5                0                0                Ascend 910B3
\t5                1                -                Mcu
\t7                0                1                Ascend 910B3
"""

MAP_TWO_DIES = """
\tNPU ID          Chip ID         Chip Logic ID   Chip Phy-ID     Chip Name
\t0               0               0               8               Ascend910
\t0               1               1               9               Ascend910
\t0               2               -               -               Mcu
"""


@pytest.mark.parametrize(
    ("table", "name", "count"),
    [
        pytest.param(NO_BANNER, "Ascend310P3", 2, id="a"),
        pytest.param(BANNER, "Ascend310P3", 1, id="b"),
        pytest.param(HIGH_ID, "Ascend310P3", 1, id="c"),
        pytest.param(NO_BUS, "Ascend310B1", 1, id="d"),
        pytest.param(NO_BUS.replace("310B1", "310B4"), "Ascend310B4", 1, id="d4"),
        pytest.param(PROCESSES, "Ascend310P3", 1, id="e"),
        pytest.param(HBM, "Ascend910B3", 2, id="f"),
        pytest.param(HBM.replace("910B3 ", "910B2C"), "Ascend910B2C", 2, id="f2C"),
        pytest.param(TWO_DIES + BOARD, "Ascend910_9392", 2, id="g"),
        pytest.param(TRAINING, "Ascend910A", 1, id="h"),
        pytest.param(SEPARATE + BOARD.replace("9392", "9579"), "Ascend950PR_9579", 2, id="i"),
        pytest.param(FOUR_CHIPS, "Ascend310", 4, id="j"),
        pytest.param(ONE_LINE, "Ascend910B", 2, id="k"),
    ],
)
def test_every_known_table_gives_the_name(table: str, name: str, count: int) -> None:
    soc = read_soc(table)
    assert (soc.name, len(soc.chips)) == (name, count)
    assert [chip.logic_id for chip in soc.chips] == list(range(count))
    assert read_soc(table.replace("\n", "\r\n")) == soc


def test_a_chip_has_its_numbers_and_health() -> None:
    assert parse_npu_smi(NO_BANNER)[1] == Chip(1, 0, 1, "Ascend310P3", "OK")
    assert parse_npu_smi(HIGH_ID) == (Chip(2144, 0, 0, "Ascend310P3", "OK"),)
    assert parse_npu_smi(HBM)[1] == Chip(5, 0, 1, "Ascend910B3", "Warning")
    assert parse_npu_smi(TWO_DIES)[1] == Chip(0, 1, 1, "Ascend910", "OK")
    assert parse_npu_smi(FOUR_CHIPS)[2] == Chip(3, 2, 2, "Ascend310", "OK")
    assert parse_npu_smi(SEPARATE)[1] == Chip(1, 0, 1, "Ascend950PR", "OK")


def test_a_chip_that_is_not_well_is_said() -> None:
    (remark,) = read_soc(PROCESSES).remarks
    assert remark == "chip 0 (Ascend310P3) reports its health as Alarm"
    assert read_soc(NO_BANNER).remarks == ()


def test_the_map_gives_the_number_of_the_device() -> None:
    assert parse_chip_map(MAP_910) == (
        Chip(5, 0, 0, "Ascend910B3", "UNKNOWN"),
        Chip(7, 0, 1, "Ascend910B3", "UNKNOWN"),
    )
    assert [chip.logic_id for chip in parse_chip_map(MAP_TWO_DIES)] == [0, 1]
    assert parse_chip_map(NO_BANNER) == ()


def test_map_and_table_complete_one_another() -> None:
    table = HBM.replace("| 5     910B3", "| 7     910B3")
    vague = MAP_910.replace("\t5 ", "\t0 ").replace("Ascend 910B3", "Ascend 910B")
    first, second = read_soc(table + vague).chips
    assert first == Chip(0, 0, 0, "Ascend910B3", "OK")
    assert second == Chip(7, 0, 1, "Ascend910B3", "Warning")
    # A chip that only the map lists keeps what that says.
    assert read_soc(HBM + MAP_910).chips[1] == Chip(7, 0, 1, "Ascend910B3", "UNKNOWN")


@given(
    chips=st.lists(
        st.tuples(
            st.integers(0, 9999),
            st.sampled_from(["310P3", "910B4", "Ascend910B3", "310B1", "910A"]),
            st.sampled_from(["OK", "Warning", "Alarm", "Critical", "UNKNOWN"]),
        ),
        max_size=9,
    ),
    width=st.integers(0, 9),
    separator=st.sampled_from(["+====+===+", "+----+---+", ""]),
    device=st.booleans(),
)
def test_widths_and_separators_mean_nothing(
    chips: list[tuple[int, str, str]], width: int, separator: str, device: bool
) -> None:
    gap = " " * width
    lines = [f"|{gap}NPU   Name{gap}| Health |", f"|Chip {'Device' if device else ''}{gap}|Bus-Id|"]
    for place, (number, name, health) in enumerate(chips):
        lines += [separator, f"|{gap}{number} {gap}{name}{gap}|{health}{gap}| - 36 0{gap}/ 0 |"]
        lines.append(f"|{gap}0{gap} {place if device else ''}|{gap}NA{gap}| 0 1/ 2 |")
    expected = [
        Chip(number, 0, place, name if name.startswith("Ascend") else f"Ascend{name}", health)
        for place, (number, name, health) in enumerate(chips)
    ]
    assert list(parse_npu_smi("\n".join(lines))) == expected


def test_the_trap_in_a_name_is_said() -> None:
    (remark,) = read_soc(ONE_LINE).remarks
    assert "first 910 generation" in remark
    assert read_soc(TRAINING).remarks == ()


def test_a_short_name_needs_the_board_page() -> None:
    with pytest.raises(AscendError, match=r"Ascend910, .*`npu-smi info -t board -i 0 -c 0`"):
        read_soc(TWO_DIES)
    with pytest.raises(AscendError, match="NPU Name"):
        read_soc(TWO_DIES + BOARD.replace("9392", "NA"))


def test_several_kinds_of_chip_ask_for_a_choice() -> None:
    table = NO_BANNER.replace("| 1       310P3", "| 1       310B1")
    with pytest.raises(AscendError, match=r"0 is Ascend310P3, 1 is Ascend310B1: .*--device"):
        read_soc(table)
    assert read_soc(table, device=1).name == "Ascend310B1"
    with pytest.raises(AscendError, match="no chip number 2 here: 0 is Ascend310P3"):
        read_soc(table, device=2)


FAILURES = [
    "dcmi module initialize failed. ret is -8005\n",
    "DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)(ret=4)\n"
    "dcmi model initialized failed, because the device is used. ret is -8020\n",
]


@pytest.mark.parametrize("text", FAILURES)
def test_a_driver_that_is_not_reached_is_explained(text: str) -> None:
    with pytest.raises(AscendError, match=r"driver cannot be reached; causes: .*HwHiAiUser"):
        read_soc(text)


@pytest.mark.parametrize("text", ["", "hello\nworld\n", NO_BANNER.split("| 0 ")[0]])
def test_text_without_a_chip_is_refused(text: str) -> None:
    with pytest.raises(AscendError, match="shows no chip"):
        read_soc(text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that alone is searched for npu-smi, on a machine without the toolkit."""
    monkeypatch.setattr(soc, "_PLACES", ())
    monkeypatch.setenv("PATH", f"{tmp_path}")
    install(monkeypatch, None)
    return tmp_path


def write_tool(folder: Path, answers: dict[str, str], *, code: int = 0) -> None:
    """Write an npu-smi that answers these arguments, and fails for all others."""
    for number, text in enumerate(answers.values()):
        (folder / f"{number}.txt").write_text(text)
    cases = "".join(
        f'"{arguments}") while IFS= read -r line; do printf "%s\\n" "$line"; done '
        f'< "{folder}/{number}.txt"; exit {code};;\n'
        for number, arguments in enumerate(answers)
    )
    tool = folder / "npu-smi"
    tool.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}*) echo "no such command"; exit 3;; esac\n')
    tool.chmod(0o755)


def test_the_tool_is_asked(place: Path) -> None:
    write_tool(place, {"info": NO_BANNER})
    soc = find_soc()
    assert (soc.name, soc.source, len(soc.chips)) == ("Ascend310P3", "npu-smi", 2)


def test_the_tool_is_asked_for_map_and_board(place: Path) -> None:
    answers = {
        "info": TWO_DIES,
        "info -m": MAP_TWO_DIES,
        "info -t board -i 0 -c 0": BOARD,
    }
    write_tool(place, answers)
    soc = find_soc()
    assert soc.name == "Ascend910_9392"
    assert soc.chips[1] == Chip(0, 1, 1, "Ascend910_9392", "OK")


def test_the_toolkits_word_is_taken_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeAcl(lambda arrays: arrays, soc="Ascend910B2"))
    soc = find_soc()  # there is no npu-smi
    assert (soc.name, soc.source, soc.chips) == ("Ascend910B2", "pyACL", ())
    write_tool(place, {"info": TWO_DIES})  # whose board page cannot be read
    assert find_soc().name == "Ascend910B2"
    write_tool(place, {"info": HBM})
    assert len(find_soc().chips) == 2
    # Where chips differ, the toolkit names but one of them.
    write_tool(place, {"info": NO_BANNER.replace("| 1       310P3", "| 1       310B1")})
    with pytest.raises(AscendError, match="several kinds"):
        find_soc()
    assert find_soc(device=0).name == "Ascend310P3"


def test_no_tool_is_explained(place: Path) -> None:
    with pytest.raises(AscendError, match=r"neither pyACL .* nor the driver's npu-smi"):
        find_soc()


@pytest.mark.parametrize("code", [0, 1])
def test_a_tool_that_fails_is_explained(place: Path, code: int) -> None:
    write_tool(place, {"info": FAILURES[0]}, code=code)
    with pytest.raises(AscendError, match=r"npu-smi info says 'dcmi module .* -8005': .*causes"):
        find_soc()


def test_a_tool_that_hangs_or_does_not_start_is_explained(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = place / "npu-smi"
    tool.write_text("#!/bin/sh\nwhile :; do :; done\n")
    tool.chmod(0o755)
    monkeypatch.setattr(soc, "_PATIENCE", 0.05)
    with pytest.raises(AscendError, match="gave no answer"):
        find_soc()
    tool.write_text(f"#!{place}/no-such-shell\n")
    with pytest.raises(AscendError, match="does not start"):
        find_soc()


def test_the_command_prints_just_the_name(place: Path) -> None:
    write_tool(place, {"info": HBM.replace("910B3", "910B ")})
    result = CliRunner().invoke(command, [])
    assert (result.exit_code, result.stdout) == (0, "Ascend910B\n")
    assert "reports its health as Warning" in result.stderr
    assert "first 910 generation" in result.stderr


def test_the_command_reads_saved_output(place: Path) -> None:
    path = place / "saved.txt"
    path.write_bytes(HIGH_ID.encode() + b"\xff\xfe\n")
    result = CliRunner().invoke(command, ["--file", os.fspath(path), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["soc_version"] == "Ascend310P3"
    chip = {"npu_id": 2144, "chip_id": 0, "logic_id": 0, "name": "Ascend310P3", "health": "OK"}
    assert found["chips"] == [chip]
    assert (found["source"], found["remarks"]) == ("saved output of npu-smi", [])
    piped = CliRunner().invoke(command, ["--file", "-", "--device", "1"], input=NO_BANNER)
    assert piped.stdout == "Ascend310P3\n"
