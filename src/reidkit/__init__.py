"""reidkit: person re-identification from a checkpoint to a deployed model, with proof.

The public names are resolved on first use, so `import reidkit` loads nothing heavy.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# onnxruntime reports usage to its maker unless told not to before it is imported; nothing that
# reidkit does may tell anybody about its user. Which of the two it reads depends on its version.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

if TYPE_CHECKING:
    from reidkit.benchmarking import benchmark as benchmark
    from reidkit.certifying import Certificate as Certificate
    from reidkit.certifying import certify as certify
    from reidkit.checking import check_dataset as check_dataset
    from reidkit.client import Client as Client
    from reidkit.compiling import Target as Target
    from reidkit.compiling import compile_package as compile_package
    from reidkit.compiling import find_calibration as find_calibration
    from reidkit.datasets import load_dataset as load_dataset
    from reidkit.deploying import deploy as deploy
    from reidkit.diagnosing import diagnose as diagnose
    from reidkit.embedding import embed as embed
    from reidkit.errors import ReidkitError as ReidkitError
    from reidkit.exporting import export_package as export_package
    from reidkit.gallery import Crops as Crops
    from reidkit.gallery import Gallery as Gallery
    from reidkit.gallery import Where as Where
    from reidkit.models import Model as Model
    from reidkit.models import load_model as load_model
    from reidkit.operating import calibrate as calibrate
    from reidkit.operating import judge as judge
    from reidkit.operating import read_operating_points as read_operating_points
    from reidkit.package import InputSpec as InputSpec
    from reidkit.package import ModelSpec as ModelSpec
    from reidkit.package import read_package as read_package
    from reidkit.records import Dataset as Dataset
    from reidkit.records import Embeddings as Embeddings
    from reidkit.records import Matches as Matches
    from reidkit.records import Samples as Samples
    from reidkit.records import Scores as Scores
    from reidkit.reranking import KReciprocal as KReciprocal
    from reidkit.scoring import evaluate as evaluate
    from reidkit.scoring import match as match
    from reidkit.store import read_embeddings as read_embeddings
    from reidkit.verifying import verify_package as verify_package

__version__ = "0.1.0"

_HOMES = {
    "Certificate": "certifying",
    "Client": "client",
    "Crops": "gallery",
    "Dataset": "records",
    "Embeddings": "records",
    "Gallery": "gallery",
    "InputSpec": "package",
    "KReciprocal": "reranking",
    "Matches": "records",
    "Model": "models",
    "ModelSpec": "package",
    "ReidkitError": "errors",
    "Samples": "records",
    "Scores": "records",
    "Target": "compiling",
    "Where": "gallery",
    "benchmark": "benchmarking",
    "calibrate": "operating",
    "certify": "certifying",
    "check_dataset": "checking",
    "compile_package": "compiling",
    "deploy": "deploying",
    "diagnose": "diagnosing",
    "embed": "embedding",
    "evaluate": "scoring",
    "export_package": "exporting",
    "find_calibration": "compiling",
    "judge": "operating",
    "load_dataset": "datasets",
    "load_model": "models",
    "match": "scoring",
    "read_embeddings": "store",
    "read_operating_points": "operating",
    "read_package": "package",
    "verify_package": "verifying",
}

__all__ = [  # noqa: PLE0604 - the names are those of _HOMES
    "__version__",
    *_HOMES,
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'reidkit' has no attribute {name!r}")
    value = getattr(import_module(f"reidkit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
