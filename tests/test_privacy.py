"""Nothing that reidkit does tells anybody about its user."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_running_a_model_leaves_no_usage_records(tmp_path: Path) -> None:
    """onnxruntime keeps what it will report in the user's cache folder, unless in CI."""
    code = "import reidkit\nfrom reidkit.runtimes import available_devices\navailable_devices()"
    kept = {k: v for k, v in os.environ.items() if k != "CI" and not k.startswith("ORT_")}
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=kept | home, check=True, cwd=tmp_path)
    assert [str(path) for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_test_imports_openvino_outright() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        found = re.search(
            r"importorskip\(.(openvino|nncf)|^import (openvino|nncf)", path.read_text()
        )
        assert found is None, f"{path}: {found}"
