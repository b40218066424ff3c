"""Products with torch, here on the CPU: the same scores and neighbours as with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from reidkit import comparing
from reidkit.comparing import Rows, VectorComparison, find_neighbours, prepare
from reidkit.errors import ArgumentError, DeviceError, EngineError, MissingExtraError
from reidkit.reranking import KReciprocal

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.comparing import _torch  # noqa: E402 - needs torch


def vectors(size: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((size, 24)).astype(np.float32)


@pytest.mark.parametrize("metric", comparing.METRICS)
def test_scores_are_those_of_numpy(metric: str) -> None:
    gallery = prepare(Rows.all_of(vectors(300)), metric, memory=2**20)
    queries = Rows.all_of(vectors(40, 1))
    asked = gallery.read_queries(queries, 0, 40)
    out = np.empty((40, 300), np.float32)
    _torch.DeviceProducts(gallery, "cpu").multiply(asked, out)
    np.testing.assert_allclose(out, asked @ gallery.read(0, 300).T, atol=1e-5)


@pytest.mark.parametrize("metric", comparing.METRICS)
@pytest.mark.parametrize("block", [2**30, 5000])
def test_neighbours_are_those_of_numpy(
    metric: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_torch, "_BLOCK_BYTES", block)
    monkeypatch.setattr(_torch, "_UPLOAD_BYTES", block)
    prepared = prepare(Rows.all_of(vectors(200)), metric, memory=2**20).with_squares()
    found = _torch.find_on_device(prepared, 9, "cpu")
    expected = find_neighbours(prepared, 9, memory=2**20)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-4)
    np.testing.assert_allclose(found.farthest, expected.farthest, atol=1e-4)


def scores_of(
    comparison: comparing.Comparison, gallery: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    blocks = comparison.score_blocks(
        Rows.all_of(gallery[:30]), Rows.all_of(gallery), asked=np.arange(30), memory=2**22
    )
    return np.concatenate([scores.copy() for _, scores in blocks])


@pytest.mark.parametrize("metric", comparing.METRICS)
def test_a_device_changes_no_score(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` is answered by torch on the CPU: all but the GPU itself is what a GPU would run."""
    monkeypatch.setattr(_torch, "parse_device", lambda _: ("cpu", -1))
    gallery = np.concatenate((vectors(250), vectors(250)[::5]))  # with copies
    plain, there = (VectorComparison(metric, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(scores_of(there, gallery), scores_of(plain, gallery), atol=1e-4)
    reranked, so_too = (KReciprocal(8, 4, metric=metric, device=d) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(scores_of(so_too, gallery), scores_of(reranked, gallery), atol=1e-4)


def test_full_memory_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB\nmore")

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(EngineError, match=r"out of memory on cpu.*compare them on the CPU"):
        _torch.DeviceProducts(prepare(Rows.all_of(vectors(20)), "cosine", memory=2**20), "cpu")


@pytest.mark.parametrize(("device", "error"), [("tpu", ArgumentError), ("cuda:99", DeviceError)])
def test_devices_that_are_not_there_are_refused(device: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=device):
        scores_of(VectorComparison("cosine", device=device), vectors(60))


def test_without_torch_a_device_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reidkit.comparing._devices.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"reidkit\[torch\]"):
        scores_of(KReciprocal(device="cuda"), vectors(60))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch finds")
@pytest.mark.parametrize("metric", comparing.METRICS)
def test_a_gpu_gives_the_same_scores(metric: str) -> None:
    gallery = vectors(3000)
    plain, there = (VectorComparison(metric, device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(scores_of(there, gallery), scores_of(plain, gallery), atol=1e-4)
    reranked, so_too = (KReciprocal(metric=metric, device=d) for d in ("cpu", "cuda"))
    np.testing.assert_allclose(scores_of(so_too, gallery), scores_of(reranked, gallery), atol=1e-4)
