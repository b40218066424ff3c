"""Which layer is to blame? Walks through the graphs of damaged packages."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from reidkit.certifying import find_batch_divergence, find_divergence
from reidkit.certifying._layers import (
    Layer,
    list_layers,
    measure_error,
    prepare,
    split_layers,
    trace,
    trace_alone,
)
from reidkit.certifying._walking import LARGEST_ERRORS
from reidkit.compiling import Target, compile_package
from reidkit.datasets.drawn import draw_crops
from reidkit.package import Package, read_package
from tests import certified
from tests.certified import damage
from tests.pictures import skip_without

PICTURES = [*draw_crops(4, height=50, width=24, seed=3)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return certified.write_tiny(tmp_path_factory.mktemp("tiny") / "package")


@pytest.fixture(scope="module")
def compiled(source: Package) -> Package:
    return compile_package(source, source.folder.parent / "compiled", target=Target("onnxruntime"))


def copy(package: Package, folder: Path) -> Package:
    shutil.copytree(package.folder, folder)
    return read_package(folder)


def fix_batch(package: Package, batch: int) -> Package:
    """Pretend that a package's file takes one batch size only."""
    engine = dataclasses.replace(package.spec.engine, batch=batch)
    return Package(package.folder, dataclasses.replace(package.spec, engine=engine))


# --- against the source


def test_a_healthy_package_has_no_layer_to_blame(compiled: Package, source: Package) -> None:
    found = find_divergence(compiled, source, PICTURES)
    assert found.first is None
    assert found.limit == LARGEST_ERRORS["fp32"]
    assert found.explanation.startswith("no layer alone is to blame: none of ")
    assert max(layer.error for layer in found.layers) < 1e-4


def test_layers_come_in_graph_order_and_fused_ones_have_the_name_of_the_weighted(
    compiled: Package, source: Package
) -> None:
    assert [layer.name for layer in list_layers(source)] == [
        "conv1",
        "relu1",
        "conv2",
        "relu2",
        "conv3",
        "pool",
        "flatten",
    ]
    # onnxruntime makes one layer of a convolution and its ReLU.
    assert len(list_layers(compiled)) == 5
    found = find_divergence(compiled, source, PICTURES)
    names = [(layer.layer, layer.operator) for layer in found.layers]
    assert names[:3] == [("conv1", "Conv"), ("conv2", "Conv"), ("conv3", "Conv")]
    assert names[-1] == ("flatten", "Flatten")


def test_a_shifted_bias_names_its_layer(compiled: Package, source: Package, tmp_path: Path) -> None:
    broken = damage(
        copy(compiled, tmp_path / "c"), certified.replace("b2", lambda bias: bias + np.float32(1))
    )
    found = find_divergence(broken, source, PICTURES)
    assert found.first is not None
    assert found.first.layer == "conv2"
    assert found.explanation.endswith("1 values before it agree")


def test_a_wrong_first_value_is_said_to_be_it(
    compiled: Package, source: Package, tmp_path: Path
) -> None:
    broken = damage(copy(compiled, tmp_path / "c"), certified.scale("w1", 3))
    assert find_divergence(broken, source, PICTURES).explanation.endswith("it is the first value")


def test_values_that_are_not_finite_diverge(
    compiled: Package, source: Package, tmp_path: Path
) -> None:
    broken = damage(copy(compiled, tmp_path / "c"), certified.scale("w3", math.inf))
    found = find_divergence(broken, source, PICTURES)
    assert found.first is not None
    assert (found.first.layer, found.first.error) == ("conv3", math.inf)


def test_a_file_without_a_readable_inside_says_so(tmp_path: Path) -> None:
    one = certified.write_fake(tmp_path / "one")
    other = certified.write_fake(tmp_path / "other", seed=1)
    hidden = "does not show its inner values: compile to another target"
    found = find_divergence(other, one, PICTURES)
    assert (found.first, found.layers) == (None, ())
    assert hidden in found.explanation
    assert hidden in find_batch_divergence(other, one, PICTURES).explanation


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 3])
def test_an_openvino_file_is_walked_by_the_names_of_its_source(
    source: Package, tmp_path: Path, batch: int | None
) -> None:
    skip_without("openvino")
    broken = damage(copy(source, tmp_path / "broken"), certified.scale("w2", 2))
    broken = certified.describe(broken.folder, "model.onnx")
    compiled = compile_package(broken, tmp_path / "c", target=Target("openvino", batch=batch))
    found = find_divergence(compiled, source, PICTURES)
    assert found.first is not None
    assert found.first.layer == "conv2"
    healthy = find_batch_divergence(compiled, source, PICTURES)
    assert healthy.first is None
    assert healthy.layers


# --- against itself at another batch size


@pytest.mark.parametrize("batch", [None, 2, 4, 8])
def test_the_first_mixed_value_is_named(
    compiled: Package, source: Package, tmp_path: Path, batch: int | None
) -> None:
    mixing = damage(copy(compiled, tmp_path / "c"), certified.mix("r2"))
    if batch is not None:
        mixing = fix_batch(mixing, batch)
    found = find_batch_divergence(mixing, source, PICTURES)
    assert found.first is not None
    assert (found.first.layer, found.first.operator) == ("mixing", "Add")
    assert found.explanation.startswith("from mixing (Add) on, a picture's values depend on")
    assert found.explanation.endswith("(seen with 4)")


@pytest.mark.parametrize("batch", [None, 1, 3, 4])
def test_pictures_that_do_not_mix_have_no_layer_to_blame(
    compiled: Package, source: Package, batch: int | None
) -> None:
    package = compiled if batch is None else fix_batch(compiled, batch)
    found = find_batch_divergence(package, source, PICTURES)
    assert found.first is None
    assert len(found.layers) == 5
    assert "none of 5 inner values depends on the other pictures" in found.explanation


# --- values and their errors


@pytest.mark.parametrize("batch", [None, 1, 3, 4, 16])
def test_every_picture_has_its_values_whatever_the_batch(
    source: Package, batch: int | None
) -> None:
    package = source if batch is None else fix_batch(source, batch)
    layers, inputs = list_layers(source), prepare(source, PICTURES)
    right, found = trace(source, inputs, layers), trace(package, inputs, layers)
    alone = trace_alone(package, inputs, layers)
    assert list(right) == [layer.value for layer in layers]
    for values in (found, alone):
        assert {name: value.shape for name, value in values.items()} == {
            name: value.shape for name, value in right.items()
        }
        for name, value in values.items():
            np.testing.assert_allclose(value, right[name], rtol=1e-4, atol=1e-5)


@given(st.integers(0, 200), st.integers(1, 64))
def test_groups_of_layers_are_whole_and_bounded(count: int, pictures: int) -> None:
    layers = [Layer(str(number), "Conv", (), str(number)) for number in range(count)]
    groups = list(split_layers(layers, pictures))
    assert [layer for group in groups for layer in group] == layers
    assert all(len(group) * pictures <= max(32, pictures) for group in groups)


VALUES = npst.arrays(
    np.float32,
    st.tuples(st.just(3), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=32),
)


@given(VALUES, st.floats(0.125, 4, width=32))
def test_an_error_is_relative_to_the_spread_over_pictures(
    right: NDArray[np.float32], share: float
) -> None:
    right[0] += np.float32(200)
    exact = right.astype(np.float64)
    spread = math.sqrt(((exact - exact.mean(axis=0)) ** 2).sum())
    found = right + np.float32(share)
    expected = np.linalg.norm(found.astype(np.float64) - exact) / spread
    assert measure_error(found, right) == pytest.approx(expected, rel=1e-4)
    assert measure_error(right, right) == 0


def test_errors_that_are_no_numbers_are_infinite() -> None:
    right = np.ones((2, 3), np.float32)
    assert measure_error(right[:, :2], right) == math.inf
    assert measure_error(np.full_like(right, math.nan), right) == math.inf
    assert measure_error(np.full_like(right, math.inf), right) == math.inf
    # Without any spread a value's own size is the measure: not the same is far away.
    assert measure_error(right, right) == 0
    assert measure_error(right + 1, right) > 1000
