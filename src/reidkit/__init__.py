"""reidkit: person re-identification from a checkpoint to a deployed model, with proof.

The public names are resolved on first use, so `import reidkit` loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reidkit.datasets import load_dataset as load_dataset
    from reidkit.embedding import embed as embed
    from reidkit.errors import ReidkitError as ReidkitError
    from reidkit.exporting import export_package as export_package
    from reidkit.models import Model as Model
    from reidkit.models import load_model as load_model
    from reidkit.package import InputSpec as InputSpec
    from reidkit.package import ModelSpec as ModelSpec
    from reidkit.package import read_package as read_package
    from reidkit.records import Dataset as Dataset
    from reidkit.records import Embeddings as Embeddings
    from reidkit.records import Matches as Matches
    from reidkit.records import Samples as Samples
    from reidkit.records import Scores as Scores
    from reidkit.scoring import evaluate as evaluate
    from reidkit.store import read_embeddings as read_embeddings

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "records",
    "Embeddings": "records",
    "InputSpec": "package",
    "Matches": "records",
    "Model": "models",
    "ModelSpec": "package",
    "ReidkitError": "errors",
    "Samples": "records",
    "Scores": "records",
    "embed": "embedding",
    "evaluate": "scoring",
    "export_package": "exporting",
    "load_dataset": "datasets",
    "load_model": "models",
    "read_embeddings": "store",
    "read_package": "package",
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
