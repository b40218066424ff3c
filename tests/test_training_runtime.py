"""A network in training as a model: its runtime, and the vectors that its package would give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from reidkit import preprocess
from reidkit.datasets.drawn import draw_crops
from reidkit.embedding import embed
from reidkit.errors import DeviceError, EngineError
from reidkit.exporting import export_package
from reidkit.models import load_model
from reidkit.package import InputSpec
from reidkit.records import Samples
from reidkit.runtimes import Runtime

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.training._network import build_network, state_as_arrays  # noqa: E402 - needs torch
from reidkit.training._recipe import Recipe  # noqa: E402
from reidkit.training._runtime import ModuleRuntime, as_model, normalise  # noqa: E402

RECIPE = Recipe(architecture="osnet_x0_25", height=64, width=32)


def network(recipe: Recipe = RECIPE) -> Any:
    """A network whose running statistics and BNNeck are not those of a new one."""
    module = build_network(recipe.network(5), seed=3).train()
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if "bottleneck" in name and tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand(tensor.shape, generator=chance) + 0.5)
        module(torch.randn((8, 3, 64, 32), generator=chance))
    return module


def pictures(count: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 64, 32, 3), dtype=np.uint8)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    opened = ModuleRuntime(network(), RECIPE.contract)
    yield opened
    opened.close()


# Normalisation.


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("scale", [1 / 255, 1.0])
def test_pixels_become_the_numbers_of_preprocess(
    colour: Literal["rgb", "bgr"], scale: float
) -> None:
    contract = InputSpec(height=64, width=32, colour=colour, scale=scale)
    pixels = pictures(5)
    expected = np.empty((5, 3, 64, 32), np.float32)
    for picture, row in zip(pixels, expected, strict=True):
        preprocess.normalise(picture, contract, row)
    table = torch.from_numpy(preprocess.normalised_values(contract).copy())
    found = normalise(torch.from_numpy(pixels), table, colour)
    assert found.is_contiguous()
    assert found.numpy().tobytes() == expected.tobytes()
    mirrored = normalise(torch.from_numpy(pixels).flip(2), table, colour)
    assert np.array_equal(mirrored.numpy(), expected[..., ::-1])


# What tests/contract asks of every runtime; this one has no file to be loaded from.


def test_it_says_what_it_is(runtime: Runtime) -> None:
    assert (runtime.name, runtime.device) == ("torch-training", "cpu")
    assert (runtime.batch, runtime.takes) == (None, "pixels")


def test_a_row_for_each_picture_and_the_same_bits_again(runtime: Runtime) -> None:
    vectors = runtime.run(pictures(5))
    assert vectors.shape == (5, 512)
    assert vectors.dtype == np.float32
    assert len(np.unique(vectors, axis=0)) == 5
    kept = vectors.copy()
    assert np.array_equal(runtime.run(pictures(5)), kept)
    runtime.run(pictures(5, seed=1))
    assert np.array_equal(vectors, kept)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_row_does_not_depend_on_its_batch(runtime: Runtime, batch: int) -> None:
    inputs = pictures(7)
    parts = [runtime.run(inputs[start : start + batch]) for start in range(0, 7, batch)]
    whole = runtime.run(inputs)
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-5 * whole.max())


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((64, 32, 3), np.uint8),
        ((0, 64, 32, 3), np.uint8),
        ((1, 64, 32, 4), np.uint8),
        ((1, 64, 32, 3), np.float32),
    ],
)
def test_a_wrong_input_is_refused(runtime: Runtime, shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(EngineError, match=r"\(B, H, W, 3\) uint8"):
        runtime.run(np.zeros(shape, dtype))


def test_a_closed_runtime_says_so(runtime: Runtime) -> None:
    runtime.close()
    runtime.close()
    with pytest.raises(EngineError, match="closed"):
        runtime.run(pictures(1))


def test_arrays_that_may_not_be_written_to_are_taken(runtime: Runtime) -> None:
    inputs = pictures(3)
    expected = runtime.run(inputs)
    inputs.flags.writeable = False
    assert np.array_equal(runtime.run(inputs), expected)
    assert np.array_equal(runtime.run(pictures(6)[::2]), runtime.run(pictures(6)[::2].copy()))


# What is particular to a module that is in training.


def test_every_part_is_put_back_into_its_mode_and_nothing_is_learnt() -> None:
    module = network().train()
    module.conv1.eval()
    modes = [part.training for part in module.modules()]
    before = state_as_arrays(module)
    runtime = ModuleRuntime(module, RECIPE.contract)
    vectors = runtime.run(pictures(4))
    assert [part.training for part in module.modules()] == modes
    after = state_as_arrays(module)
    assert all(np.array_equal(after[name], before[name]) for name in before)
    assert np.array_equal(ModuleRuntime(module.eval(), RECIPE.contract).run(pictures(4)), vectors)


def test_a_mode_is_put_back_after_a_failure_too() -> None:
    module = network().train()
    with pytest.raises(EngineError, match="failed on a batch of 1 on cpu"):
        ModuleRuntime(module, RECIPE.contract).run(np.zeros((1, 1, 1, 3), np.uint8))
    assert module.bottleneck.training


def test_it_is_float32_under_autocast_too(runtime: Runtime) -> None:
    expected = runtime.run(pictures(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(runtime.run(pictures(2)), expected)


@pytest.mark.parametrize("neck", ["after", "before", "output"])
def test_the_vector_is_taken_where_the_contract_says(
    neck: Literal["after", "before", "output"],
) -> None:
    module = network().eval()
    contract = InputSpec(height=64, width=32, neck=neck)
    vectors = ModuleRuntime(module, contract).run(pictures(3))
    table = torch.from_numpy(preprocess.normalised_values(contract).copy())
    with torch.inference_mode():
        features = module(normalise(torch.from_numpy(pictures(3)), table, "rgb"))
    expected = features.pooled if neck == "before" else features.neck
    assert not torch.equal(features.pooled, features.neck)
    assert np.array_equal(vectors, expected.numpy())


def test_a_network_on_another_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="asked for meta, but the network is on cpu"):
        ModuleRuntime(network(), RECIPE.contract, "meta")


# As a model, and as the package that it becomes.


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        Recipe(architecture="osnet_ain_x0_25", height=64, width=32, pooling="gem", bnneck=False),
        Recipe(architecture="resnet18", height=64, width=32, neck_feature="before", last_stride=2),
    ],
    ids=lambda recipe: recipe.architecture,
)
def test_pictures_get_the_vectors_of_the_exported_package(recipe: Recipe, tmp_path: Path) -> None:
    for number, crop in enumerate(draw_crops(6, height=80, width=40, seed=1)):
        Image.fromarray(crop).save(tmp_path / f"{number}.png")
    paths = np.array(sorted(map(str, tmp_path.glob("*.png"))), object)
    samples = Samples(paths, np.zeros(6, np.int64), np.zeros(6, np.int64))

    module = network(recipe)
    model = as_model(module, recipe)
    found = embed(model, samples, batch=4, workers=1)
    save_file(state_as_arrays(module), tmp_path / "best.safetensors")
    package = export_package(
        tmp_path / "best.safetensors",
        tmp_path / "package",
        contract=recipe.contract,
        last_stride=recipe.last_stride,
    )
    with load_model(package) as exported:
        expected = embed(exported, samples, batch=4, workers=1)
    assert found.vectors.shape == (6, module.embedding_size)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-4)
    assert model.contract == package.spec.input
    assert model.spec.weights_sha256 == package.spec.weights_sha256
    assert model.spec.architecture == package.spec.architecture


def test_a_model_is_known_by_its_tensors_and_by_what_is_made_of_them() -> None:
    module = network()
    first = as_model(module, RECIPE)
    assert as_model(module, RECIPE).sha256 == first.sha256
    before = Recipe(architecture="osnet_x0_25", height=64, width=32, neck_feature="before")
    assert as_model(module, before).sha256 != first.sha256
    with torch.no_grad():
        module.classifier.weight.add_(1)
    assert as_model(module, RECIPE).sha256 == first.sha256
    with torch.no_grad():
        module.conv1.conv.weight[0, 0, 0, 0] += 1e-3
    assert as_model(module, RECIPE).sha256 != first.sha256
