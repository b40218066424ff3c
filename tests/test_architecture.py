"""The picture in docs/architecture.md, enforced: arrows point down, heavy imports stay home."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "reidkit"
FILES = sorted(SOURCE.rglob("*.py"))

HOMES = {
    "onnxruntime": [
        "runtimes/_onnxruntime",
        "compiling/_onnxruntime.py",
        "compiling/_bias.py",
        "compiling/_tensorrt.py",
    ],
    "onnx": ["networks/", "exporting/", "compiling/", "certifying/", "runtimes/_onnxruntime.py"],
    "torch": [
        "exporting/_module.py",
        "compiling/_torch",
        "runtimes/_torch.py",
        "devices.py",
        "comparing/_torch.py",
        "training/",
    ],
    "openvino": ["exporting/_openvino.py", "compiling/_openvino.py", "runtimes/_openvino"],
    "nncf": ["compiling/_openvino.py"],
    "acl": ["runtimes/_ascend.py"],
    "yacs": ["configs.py"],
    "yaml": ["configs.py"],
    "fastapi": ["serving/"],
    "starlette": ["serving/"],
    "uvicorn": ["serving/"],
    "python_multipart": ["serving/"],
    "prometheus_client": ["serving/"],
    "anyio": ["serving/"],
    "pydantic": ["serving/"],
    "httpx": ["client/"],
    "sqlite3": ["gallery/_sqlite"],
    "psycopg": ["gallery/_postgres"],
    "pgvector": ["gallery/_postgres"],
    "simsimd": ["gallery/_screening.py"],
    "tensorboard": ["training/_logging.py"],
    "timm": ["training/_initialising.py"],
    "umap": ["reports/_map.py"],
    "ray": ["distributed/"],
    "pyarrow": ["distributed/"],
    "fsspec": ["distributed/"],
    "PIL": ["preprocess.py", "datasets/drawn/", "reports/"],
    "simplejpeg": ["preprocess.py"],
    "safetensors": ["checkpoints/", "training/"],
    "click": ["cli/"],
    "rich": ["cli/"],
    "jinja2": ["reports/"],
    "filelock": ["store/", "disk.py"],
}
"""The only places that import a library, besides tests."""


def picture() -> dict[str, int]:
    """Read the levels from the architecture document: module -> level."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = text.split("<!-- levels -->")[1].split("```")[1]
    levels: dict[str, int] = {}
    for line in block.strip().splitlines():
        number, *modules = line.split()
        levels |= dict.fromkeys(modules, int(number))
    return levels


def unit(path: Path) -> str:
    """Give the module or package directly under reidkit that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Give the dotted names that a file imports at run time, wherever in the file."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_is_in_the_picture() -> None:
    assert {unit(path) for path in FILES} - {"__init__", "__main__"} <= set(picture())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_arrows_point_down(path: Path) -> None:
    levels = picture()
    if path.parent == SOURCE and path.name.startswith("__"):
        return  # the public names, resolved on first use, and the entry point
    here = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "reidkit" or len(parts) == 1 or parts[1] not in levels:
            continue
        assert parts[1] == here or levels[parts[1]] < levels[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_libraries_stay_home(path: Path) -> None:
    place = path.relative_to(SOURCE).as_posix()
    for name in imports(path):
        library = name.split(".")[0]
        if library in HOMES:
            assert place.startswith(tuple(HOMES[library])), f"{place} imports {library}"


def modules_after(code: str) -> set[str]:
    listing = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_importing_reidkit_loads_nothing_heavy() -> None:
    loaded = modules_after("import reidkit")
    assert loaded.isdisjoint({"numpy", "PIL", "onnx", "onnxruntime", "torch", "rich", "click"})


def test_help_loads_nothing_heavy() -> None:
    code = "import reidkit.cli\ntry:\n    reidkit.cli.main(['--help'])\nexcept SystemExit: pass"
    assert modules_after(code).isdisjoint({"numpy", "PIL", "onnx", "onnxruntime", "torch", "rich"})


def test_every_public_name_resolves() -> None:
    import reidkit

    for name in reidkit.__all__:
        assert getattr(reidkit, name) is not None
    assert set(reidkit.__all__) <= set(dir(reidkit))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        reidkit.nonsense  # noqa: B018 - the access is the test


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def test_at_most_six_parameters() -> None:
    """Commands take one parameter an option, so the command line is left out."""
    crowded = []
    for path, node in functions():
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        if unit(path) != "cli" and len([n for n in names if n not in ("self", "cls")]) > 6:
            crowded.append(f"{path.relative_to(SOURCE)}:{node.name}")
    assert crowded == []


def test_no_stubs_and_no_prints() -> None:
    for path in FILES:
        text = path.read_text()
        assert "raise NotImplemented" not in text, path
        assert not re.search(r"^\s*(print|assert)\b", text, re.MULTILINE), path
