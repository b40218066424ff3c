"""Small pictures and fake models that many tests need."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reidkit.models import Model
from reidkit.package import EngineSpec, InputSpec, ModelSpec
from reidkit.records import Samples
from reidkit.runtimes.fake import FakeRuntime


def skip_without(library: str) -> None:
    """Skip a test where a library is missing, without importing it.

    Importing openvino outright, as `pytest.importorskip` does, would send an event to its maker.
    """
    if util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


SMALL = InputSpec(height=32, width=16)


def write_picture(path: Path, seed: int, *, height: int = 40, width: int = 20) -> str:
    """Write a smooth random picture."""
    random = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    Image.fromarray(random).resize((width, height)).save(path)
    return str(path)


def write_samples(folder: Path, count: int) -> Samples:
    """Write `count` pictures of `count // 2` people, each seen by two cameras."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [write_picture(folder / f"{i:04}.jpg", seed=i) for i in range(count)]
    return Samples.from_columns(
        paths, np.arange(count) // 2 + 1, np.arange(count, dtype=np.int64) % 2 + 1
    )


def fake_model(
    size: int = 8, *, batch: int | None = None, contract: InputSpec = SMALL, sha256: str = "e" * 64
) -> Model:
    """Give a model that needs no engine."""
    engine = EngineSpec("fake.json", sha256, "fake", batch)
    spec = ModelSpec("fake", "fake", size, "w" * 64, "r" * 64, contract, engine)
    return Model(spec, FakeRuntime(size, batch=batch))
