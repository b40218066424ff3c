"""Other projects' scorers, loaded from a checkout of theirs and run as they are.

Nothing of theirs is part of this project: single files are imported from the folder given, with
stand-ins for the modules that they import and do not need here.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from people import People

Figures = dict[str, float]


def run_reference(checkout: Path, people: People, way: str) -> Figures:
    """Score as reid-strong-baseline does: its metric objects, vectors brought to unit length.

    `way` is `R1_mAP` or `R1_mAP_reranking`.
    """
    import torch

    module = _load_reference(checkout)
    spent: Figures = {"scorer_seconds": 0.0}
    module.eval_func = _time(module.eval_func, spent)
    metric = getattr(module, way)(people.queries, max_rank=50, feat_norm="yes")
    metric.reset()
    metric.update((torch.from_numpy(people.vectors), *people.labels.T))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torch in a way that is out of use
        cmc, mAP = metric.compute()
    return {"mAP": float(mAP), "rank1": float(cmc[0]), **spent}


def run_torchreid(checkout: Path, people: People, extension: Path | None) -> Figures:
    """Score as torchreid does, cosine distances; compiled where an `extension` is given."""
    import torch

    metrics = checkout / "torchreid" / "metrics"
    distance = _load("torchreid.metrics.distance", metrics / "distance.py")
    if extension:
        for name in ("torchreid", "torchreid.metrics", "torchreid.metrics.rank_cylib"):
            sys.modules.setdefault(name, ModuleType(name))
        loader = importlib.machinery.ExtensionFileLoader("rank_cy", str(extension))
        spec = importlib.util.spec_from_file_location("rank_cy", extension, loader=loader)
        sys.modules["torchreid.metrics.rank_cylib.rank_cy"] = _execute(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it finds no compiled scorer
        rank = _load("torchreid.metrics.rank", metrics / "rank.py")
    sides = torch.from_numpy(people.vectors).tensor_split((people.queries,))
    matrix = distance.compute_distance_matrix(*sides, "cosine")
    asked, given = people.query.samples, people.gallery.samples
    began = time.perf_counter()
    cmc, mAP = rank.evaluate_rank(
        matrix.numpy(),
        asked.person_ids,
        given.person_ids,
        asked.camera_ids,
        given.camera_ids,
        use_cython=extension is not None,
    )
    seconds = time.perf_counter() - began
    return {"mAP": float(mAP), "rank1": float(cmc[0]), "scorer_seconds": seconds}


def compile_torchreid(checkout: Path, python: Path, folder: Path) -> Path:
    """Compile torchreid's scorer in a scratch folder, with an interpreter that has Cython.

    That must be of the same version as the one that runs this.
    """
    source = folder / "rank_cylib"
    shutil.copytree(checkout / "torchreid" / "metrics" / "rank_cylib", source)
    command = [str(python), "setup.py", "build_ext", "--inplace"]
    subprocess.run(command, cwd=source, stdout=subprocess.DEVNULL, check=True)
    (extension,) = source.glob("rank_cy*.so")
    return extension


def _load_reference(checkout: Path) -> Any:
    """Load the file with the reference's metrics; of ignite it needs a base class only."""
    ignite = ModuleType("ignite.metrics")
    ignite.Metric = _Metric  # type: ignore[attr-defined]
    sys.modules.update({"ignite": ModuleType("ignite"), "ignite.metrics": ignite})
    for name in ("data", "data.datasets", "utils"):
        sys.modules[name] = ModuleType(name)
    _load("data.datasets.eval_reid", checkout / "data" / "datasets" / "eval_reid.py")
    _load("utils.re_ranking", checkout / "utils" / "re_ranking.py")
    return _load("utils.reid_metric", checkout / "utils" / "reid_metric.py")


class _Metric:
    """Stands in for ignite's base class, which calls `reset` when it is made."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start with nothing."""


def _load(name: str, path: Path) -> Any:
    return _execute(importlib.util.spec_from_file_location(name, path), name)


def _execute(spec: importlib.machinery.ModuleSpec | None, name: str = "") -> Any:
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _time(function: Callable[..., Any], spent: Figures) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        result = function(*arguments)
        spent["scorer_seconds"] += time.perf_counter() - began
        return result

    return timed
