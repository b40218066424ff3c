from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode

from reidkit import networks
from reidkit.configs import Config, merge_config, read_config
from reidkit.errors import ArgumentError
from reidkit.package import InputSpec
from tests.ascend_files import write_guide_config

BASELINE = """
MODEL: {LAST_STRIDE: 2, NECK: 'no', IF_LABELSMOOTH: 'off'}
INPUT: {SIZE_TEST: [256, 128], RE_PROB: 0.0}
"""
"""What matters of the reference's baseline.yml."""

KEYS = [
    f"{section}.{key}" if isinstance(values, dict) else section
    for section, values in merge_config(None).items()
    for key in (values if isinstance(values, dict) else [""])
]


def write(folder: Path, text: str, name: str = "c.yml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def yacs(file: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Merge as the reference's scripts do: yacs, all at once."""
    node = CfgNode(merge_config(None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own, over texts that nearly are literals
        if file is not None:
            node.merge_from_file(str(file))
        node.merge_from_list(pairs)
    return dict(node)


def either(merge: Any, *arguments: Any) -> tuple[object, object]:
    """Give what a merge gives, types and all, or that it refuses."""
    try:
        merged = merge(*arguments)
    except Exception as error:  # noqa: BLE001 - yacs raises several unrelated types
        return "refused", isinstance(error, ArgumentError)
    return repr(merged), True


def value(pairs: list[str], key: str) -> object:
    section, name = key.split(".")
    return merge_config(None, pairs)[section][name]


# What the guide passes.


def test_the_guides_file_and_overrides(tmp_path: Path) -> None:
    pairs = ["MODEL.PRETRAIN_CHOICE", "('self')", "TEST.WEIGHT", "market_resnet50.pth"]
    config = read_config(write_guide_config(tmp_path), pairs)
    assert config == Config("resnet50", 1, True, InputSpec(), "market_resnet50.pth")
    pairs += ["TEST.NECK_FEAT", "('before')", "TEST.FEAT_NORM", "('no')"]
    config = read_config(write_guide_config(tmp_path), pairs)
    assert config.contract == InputSpec(neck="before")
    assert [remark.split()[0] for remark in config.remarks] == ["TEST.FEAT_NORM"]


def test_every_value_of_the_guides_file_is_what_yacs_makes_of_it(tmp_path: Path) -> None:
    file = write_guide_config(tmp_path)
    merged = merge_config(file)
    assert repr(merged) == repr(yacs(file, []))
    assert merged["DATASETS"]["NAMES"] == "market1501"
    assert merged["SOLVER"]["STEPS"] == (40, 70)


def test_without_a_file_the_defaults_hold() -> None:
    """Their size is 384x128, which surprises many."""
    config = read_config(None)
    assert (config.contract, config.weight) == (InputSpec(height=384, width=128), "")
    defaults = merge_config(None)
    assert len(KEYS) == 53
    assert defaults["SOLVER"]["WARMUP_FACTOR"] == 1 / 3
    assert defaults["SOLVER"]["STEPS"] == (30, 55)
    assert defaults["MODEL"]["DEVICE_ID"] == "0"


def test_defaults_are_not_changed_by_a_merge() -> None:
    before = repr(merge_config(None))
    merge_config(None, ["SOLVER.STEPS", "(1,2)"])["INPUT"]["SIZE_TEST"].append(3)
    assert repr(merge_config(None)) == before


def test_a_network_without_bnneck(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, BASELINE, "baseline.yaml"))
    assert (config.bnneck, config.last_stride) == (False, 2)
    assert config.contract == InputSpec(neck="output")


def test_mean_std_and_size() -> None:
    pairs = ["INPUT.PIXEL_MEAN", "(0.5,0.5,0)", "INPUT.PIXEL_STD", "[1,1,2]"]
    contract = read_config(None, [*pairs, "INPUT.SIZE_TEST", "64,32"]).contract
    assert contract == InputSpec(height=64, width=32, mean=(0.5, 0.5, 0.0), std=(1.0, 1.0, 2.0))
    # 1 and 1.0 are not the same JSON, and so not the same contract.
    assert contract.sha256 == InputSpec(64, 32, mean=(0.5, 0.5, 0.0), std=(1.0, 1.0, 2.0)).sha256


def test_names_of_networks_are_the_references() -> None:
    reference = """
        resnet18 resnet34 resnet50 resnet101 resnet152 se_resnet50 se_resnet101 se_resnet152
        se_resnext50 se_resnext101 senet154 resnet50_ibn_a
    """
    ours = {name for name in networks.ARCHITECTURES if not name.startswith("osnet")}
    assert ours == set(reference.split())
    for name in networks.ARCHITECTURES:
        assert read_config(None, ["MODEL.NAME", f"('{name}')"]).architecture == name


# The override syntax, against yacs itself.


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("MODEL.PRETRAIN_CHOICE", "('self')", "self"),
        ("MODEL.PRETRAIN_CHOICE", "self", "self"),
        ("MODEL.PRETRAIN_CHOICE", "'self'", "self"),
        ("TEST.WEIGHT", "/models/market_resnet50.pth", "/models/market_resnet50.pth"),
        ("TEST.WEIGHT", r"C:\models\new.pth", r"C:\models\new.pth"),
        ("TEST.WEIGHT", "('models/a b.pth')", "models/a b.pth"),
        ("TEST.WEIGHT", "None", None),
        ("MODEL.DEVICE_ID", "('2')", "2"),
        ("MODEL.DEVICE_ID", "'2'", "2"),
        ("INPUT.SIZE_TEST", "(256,128)", [256, 128]),
        ("INPUT.SIZE_TEST", "256,128", [256, 128]),
        ("INPUT.SIZE_TEST", "[256, 128]", [256, 128]),
        ("SOLVER.STEPS", "[40, 70]", (40, 70)),
        ("SOLVER.BASE_LR", "1e-4", 1e-4),
        ("DATASETS.NAMES", "('market1501')", "market1501"),
    ],
)
def test_overrides_that_yacs_takes(key: str, text: str, expected: object) -> None:
    found = value([key, text], key)
    assert (found, type(found)) == (expected, type(expected))
    assert repr(merge_config(None, [key, text])) == repr(yacs(None, [key, text]))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            ["TEST.NECK_FEAT", "('before',)"],
            """of type tuple, expected a text: write "('before')\"""",
        ),
        (["MODEL.DEVICE_ID", "2"], """MODEL.DEVICE_ID is 2, of type int, .*write "('2')\""""),
        (["SOLVER.BASE_LR", "1"], "SOLVER.BASE_LR is 1, of type int, .*: write 1.0"),
        (["MODEL.LAST_STRIDE", "1.0"], "is 1.0, of type float, expected a whole number"),
        (["MODEL.LAST_STRIDE", "True"], "is True, of type bool, expected a whole number"),
        (["INPUT.SIZE_TEST", "256x128"], "'256x128', of type str, expected a list of numbers"),
        (["MODEL.NEK", "no"], "no key 'MODEL.NEK': perhaps MODEL.NECK is meant"),
        (["test.neck_feat", "after"], "perhaps TEST.NECK_FEAT is meant"),
        (["--opset", "13"], "no key '--opset': the sections are MODEL, INPUT"),
        (["MODEL", "resnet50"], "MODEL is a section: .* such as MODEL.DEVICE"),
        (["MODEL.NAME.r", "x"], "no key 'MODEL.NAME.r'"),
        (["OUTPUT_DIR.x", "y"], "no key 'OUTPUT_DIR.x'"),
        (["TEST.WEIGHT"], "'TEST.WEIGHT' has no value: .* pairs KEY VALUE"),
        (["TEST.WEIGHT", "a.pth", "b.pth"], "'b.pth' has no value"),
        (["TEST.FEAT_NORM", "{[]: 1}"], "TEST.FEAT_NORM cannot be set to '{[]: 1}'"),
    ],
)
def test_overrides_that_yacs_refuses(pairs: list[str], words: str) -> None:
    for part in words.split(".*"):
        with pytest.raises(ArgumentError) as error:
            merge_config(None, pairs)
        assert part in str(error.value)
    assert either(yacs, None, pairs)[0] == "refused"


def test_overrides_win_over_the_file_and_later_ones_over_earlier_ones(tmp_path: Path) -> None:
    file = write_guide_config(tmp_path)
    pairs = ["INPUT.SIZE_TEST", "64,32", "TEST.NECK_FEAT", "x", "TEST.NECK_FEAT", "before"]
    assert read_config(file, pairs).contract == InputSpec(height=64, width=32, neck="before")


texts = st.one_of(
    st.sampled_from(["('self')", "before", "(256,128)", "[1]", "1", "1.0", "None", "True", "a/b"]),
    st.text(st.sampled_from("()[]{}'\",.:0123456789 abe-+_#\\\n"), max_size=12),
    st.text(max_size=6),
)
keys = st.one_of(
    st.sampled_from(KEYS), st.sampled_from(["MODEL", "MODEL.", "", ".", "MODEL.NAME.r.e", "A.B"])
)


@given(st.lists(st.tuples(keys, texts), max_size=4), st.booleans())
def test_any_overrides_merge_as_yacs_merges_them(pairs: list[tuple[str, str]], odd: bool) -> None:
    words = [word for pair in pairs for word in pair][: None if not odd else -1]
    expected = either(yacs, None, words)
    found = either(merge_config, None, words)
    assert found[0] == expected[0]
    assert found[1], "an error of ours"


@given(st.data())
def test_any_file_merges_as_yacs_merges_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    leaf = st.one_of(texts, st.none(), st.booleans(), st.integers(-9, 9), st.just(0.5))
    plain = st.one_of(leaf, st.lists(leaf, max_size=3), st.dictionaries(texts, leaf, max_size=2))
    content: dict[str, Any] = {}
    for key in data.draw(st.lists(keys, max_size=4)):
        section, _, name = key.partition(".")
        drawn = data.draw(plain)
        inner = content.get(section)
        content[section] = {**(inner if isinstance(inner, dict) else {}), name: drawn}
        if not name:
            content[section] = drawn
    # JSON is YAML.
    file = write(tmp_path_factory.getbasetemp(), json.dumps(content), "any.yml")
    found = either(merge_config, file)
    assert found[0] == either(yacs, file, [])[0]
    assert found[1], "an error of ours"


# Values that yacs takes and no network has.


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("TEST.NECK_FEAT neither", "TEST.NECK_FEAT is 'neither', expected 'after' or 'before'"),
        ("TEST.FEAT_NORM maybe", "expected 'yes' or 'no'"),
        ("MODEL.NECK bottleneck", "expected 'bnneck' or 'no'"),
        ("MODEL.LAST_STRIDE 3", "MODEL.LAST_STRIDE is 3, expected 1 or 2"),
        ("MODEL.LAST_STRIDE None", "is None, expected 1 or 2"),
        ("INPUT.SIZE_TEST 256,128,3", r"is \[256, 128, 3\], expected 2 whole numbers"),
        ("INPUT.SIZE_TEST 256,128.0", "expected 2 whole numbers"),
        ("INPUT.SIZE_TEST 256,True", "expected 2 whole numbers"),
        ("INPUT.SIZE_TEST None", "is None, expected 2 whole numbers"),
        ("INPUT.SIZE_TEST 0,128", "input height is 0"),
        ("INPUT.PIXEL_MEAN 0.5,0.5", "expected 3 numbers"),
        ("INPUT.PIXEL_STD 1,1,'a'", "expected 3 numbers"),
        ("INPUT.PIXEL_STD 1,1,0", "expected three numbers above 0"),
    ],
)
def test_values_that_describe_no_network(pairs: str, words: str) -> None:
    merge_config(None, pairs.split())
    with pytest.raises(ArgumentError, match=words):
        read_config(None, pairs.split())


def test_a_section_without_values(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "TEST: {}\n")).architecture == "resnet50"
    with pytest.raises(ArgumentError, match="SOLVER is a section: change one of its keys"):
        read_config(write(tmp_path, "SOLVER:\n"))


# Files that are none.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds nothing"),
        ("# only a remark\n", "holds nothing"),
        ("MODEL", "holds a str"),
        ("- MODEL\n- INPUT\n", "holds a list"),
        ("MODEL: [", "is not a YAML file that can be read"),
        ("MODEL:\n\tNAME: x\n", "is not a YAML file that can be read"),
        ("a: 1\n---\nb: 2\n", "is not a YAML file that can be read"),
        ("MODEL: {NAME: !!python/name:os.system }", "could not determine a constructor"),
        ("MODEL: !!python/object/apply:os.mkdir ['MARK']", "could not determine a constructor"),
        ("? [a]\n: b\n", "unhashable"),
        ("[" * 5000, "is not a YAML file that can be read"),
        ("MODEL: &a [*a, *a]", "stands for too many values"),
        ("MODEL: {NECK: {a: b}}", "MODEL.NECK is {'a': 'b'}, of type dict, expected a text"),
        ("MODEL: {TEST: 2020-01-01}", "no key 'MODEL.TEST'"),
        ("MODEL: {NAME: 2020-01-01}", "of type date, expected a text"),
        ("MODEL: {NAME: 50}", """write "('50')\""""),
        ("NECK_FEAT: before", "no key 'NECK_FEAT': perhaps TEST.NECK_FEAT is meant"),
        ("1: {2: 3}", "no key '1.2'"),
    ],
)
def test_files_that_are_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, text)
    with pytest.raises(ArgumentError) as error:
        read_config(file)
    assert words in str(error.value)
    assert str(file) in str(error.value)
    assert len(str(error.value)) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["c.yml"], "nothing ran"


def test_a_python_file_is_not_executed(tmp_path: Path) -> None:
    """yacs itself would run it."""
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w')\ncfg = {{}}\n"
    for name in ("c.py", "c", "c.yml.py", "c.json"):
        with pytest.raises(
            ArgumentError, match=r"yacs would execute a \.py file, reidkit does not"
        ):
            read_config(write(tmp_path, code, name))
    with pytest.raises(ArgumentError):
        read_config(write(tmp_path, code))
    assert not mark.exists()


@pytest.mark.parametrize("merging", [False, True])
def test_a_file_that_swells_is_refused(tmp_path: Path, merging: bool) -> None:
    """Ten aliases of ten aliases ...: a few hundred bytes that stand for 10^12 values."""
    lines = ["a0: &a0 {k: 1}"]
    for level in range(1, 13):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        inner = f"{{<<: [{aliases}]}}" if merging else f"[{aliases}]"
        lines.append(f"a{level}: &a{level} {inner}")
    with pytest.raises(ArgumentError, match="stands for too many values"):
        read_config(write(tmp_path, "\n".join(lines)))
    long = f"a: &a {'x' * 50_000}\nb: [*a, *a, *a]\n"
    with pytest.raises(ArgumentError, match="stands for too many values"):
        read_config(write(tmp_path, long))


def test_a_few_aliases_are_fine(tmp_path: Path) -> None:
    file = write(tmp_path, "INPUT:\n  SIZE_TRAIN: &size [64, 32]\n  SIZE_TEST: *size\n")
    assert read_config(file).contract.height == 64


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name in ("missing.yml", "folder.yml"):
        if name == "folder.yml":
            (tmp_path / name).mkdir()
        with pytest.raises(ArgumentError, match="is no file: pass the configuration"):
            read_config(tmp_path / name)
    (tmp_path / "large.yml").write_text("# " + "x" * 2**20)
    with pytest.raises(ArgumentError, match="is larger than 1 MiB"):
        read_config(tmp_path / "large.yml")
    (tmp_path / "latin.yml").write_bytes(b"OUTPUT_DIR: '\xe9'\n")
    with pytest.raises(ArgumentError, match="is not text in UTF-8"):
        read_config(tmp_path / "latin.yml")
    (tmp_path / "marked.YML").write_bytes("﻿MODEL: {NAME: resnet18}\n".encode())
    assert read_config(tmp_path / "marked.YML").architecture == "resnet18"


def test_importing_the_module_loads_neither_yacs_nor_yaml() -> None:
    code = "import sys, reidkit.configs; sys.exit(bool({'yacs', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
