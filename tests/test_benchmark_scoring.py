"""The scoring benchmark in its smallest size: it measures, keeps what it had, and draws."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "scoring.py"


def test_the_scoring_benchmark_measures_merges_and_draws(tmp_path: Path) -> None:
    record, plot = tmp_path / "scoring.json", tmp_path / "growth.svg"
    kept = {"parts": {"market": {"rounds": 7}}, "growth": {}}
    record.write_text(json.dumps(kept), encoding="utf-8")
    options = ["--quick", "--rounds", "1", "--parts", "market-rerank-others", "--growth", "300"]
    places = ["--record", str(record), "--plot", str(plot)]
    subprocess.run([sys.executable, str(SCRIPT), *options, *places], check=True)
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["parts"]["market"] == kept["parts"]["market"]
    part = found["parts"]["market-rerank-others"]
    assert part["left_out"] == ["reference-rerank"]
    assert set(part["ways"]) == {"product-all", "rerank"}
    assert 0 < part["ways"]["rerank"]["product_share"] < 1
    assert part["over_product"]["rerank"] > 0
    assert found["growth"]["300"]["rerank"]["extra_mib"] >= 0
    assert ElementTree.fromstring(plot.read_text(encoding="utf-8")).tag.endswith("svg")
