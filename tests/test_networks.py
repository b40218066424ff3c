from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import networks
from reidkit.errors import ArgumentError, IncompatibleCheckpointError
from reidkit.networks import ARCHITECTURES, Network
from reidkit.networks.layers import Block
from reidkit.networks.layout import show_name
from tests import golden_networks as golden

Tensors = dict[str, NDArray[Any]]
EVERY = golden.SMALL + golden.LARGE
RESIDUAL = [name for name in ARCHITECTURES if not name.startswith("osnet")]
BY_SIZE = [*golden.SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in golden.LARGE)]


def blank(name: str) -> Tensors:
    """Tensors of a network's layout that take no memory."""
    return {
        key: np.broadcast_to(np.zeros((), dtype), shape)
        for key, (shape, dtype) in golden.layouts()[name].items()
    }


def residual_blocks(name: str) -> list[Block]:
    return [part for part in networks.backbone(Network(name)).body if isinstance(part, Block)]


def serialise(model: onnx.ModelProto) -> bytes:
    return bytes(model.SerializeToString(deterministic=True))


def run(model: onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(serialise(model))
    (vectors,) = session.run(["embedding"], {"image": inputs})
    return np.asarray(vectors)


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Relative to the largest magnitude of each vector."""
    assert found.shape == expected.shape
    peaks = np.abs(expected).max(axis=1, keepdims=True)
    return float((np.abs(found - expected) / peaks).max())


def build(
    tensors: Tensors,
    *,
    size: tuple[int, int] = (64, 32),
    neck: Literal["after", "before"] = "after",
    fold: bool = True,
    last_stride: int = 1,
) -> onnx.ModelProto:
    network = networks.recognise(tensors, last_stride=last_stride)
    height, width = size
    return networks.build_model(network, tensors, height=height, width=width, neck=neck, fold=fold)


# The tables, against the reference's own key lists.


@pytest.mark.parametrize("name", EVERY)
def test_the_layout_is_the_reference_state_dict(name: str) -> None:
    layout = golden.layouts()[name]
    network = Network(name.removesuffix("_noneck"), "noneck" not in name, classes=751)
    shapes = networks.tensor_shapes(network)
    assert list(shapes) == list(layout)
    assert shapes == {key: shape for key, (shape, _) in layout.items()}


def test_every_architecture_is_in_the_golden_layouts() -> None:
    assert set(RESIDUAL) == {name.removesuffix("_noneck") for name in golden.layouts()}
    assert set(ARCHITECTURES) == {*RESIDUAL, *golden.osnet_layouts()}


@pytest.mark.parametrize(("classes", "parts"), [(None, 0), (1, 1), (4101, 1)])
def test_the_layout_has_a_classifier_where_there_are_classes(
    classes: int | None, parts: int
) -> None:
    shapes = networks.tensor_shapes(Network("resnet18", classes=classes))
    found = [key for key in shapes if key.startswith("classifier")]
    assert len(found) == parts
    without_neck = networks.tensor_shapes(Network("resnet18", bnneck=False, classes=classes))
    assert sum(key.startswith("classifier") for key in without_neck) == 2 * parts


def test_used_tensors_are_those_that_a_vector_depends_on() -> None:
    used = networks.used_tensors(Network("resnet50_ibn_a", classes=751))
    assert not [key for key in used if "fc" in key or "tracked" in key or "classifier" in key]
    assert "base.layer1.0.bn1.IN.weight" in used
    assert used[-1] == "bottleneck.running_var"
    # The number of parameters that the reference counts for its best known network.
    shapes = networks.tensor_shapes(Network("resnet50"))
    learnt = [key for key in networks.used_tensors(Network("resnet50")) if "running" not in key]
    backbone = [key for key in learnt if not key.startswith("bottleneck")]
    assert sum(int(np.prod(shapes[key])) for key in backbone) == 23_508_032
    assert sum(int(np.prod(shapes[key])) for key in learnt) == 23_512_128


@pytest.mark.parametrize("name", RESIDUAL)
def test_only_the_plain_stems_have_no_relu(name: str) -> None:
    stem = networks.backbone(Network(name)).stem
    plain = name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    assert {layer.activation for layer in stem} == {"none" if plain else "relu"}
    assert len(stem) == (3 if name == "senet154" else 1)


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("last_stride", [1, 2])
def test_layers_fit_together(name: str, last_stride: int) -> None:
    network = Network(name, last_stride=last_stride)
    described = networks.backbone(network)
    channels = 3
    for layer in described.stem:
        assert layer.inputs == channels
        channels = layer.outputs
    stride = 1
    for block in described.body:
        assert isinstance(block, Block)
        entry = channels
        for layer in block.layers:
            assert layer.inputs == channels
            assert layer.inputs % layer.groups == layer.outputs % layer.groups == 0
            channels = layer.outputs
        block_stride = int(np.prod([layer.stride for layer in block.layers]))
        if block.shortcut:
            assert (block.shortcut.inputs, block.shortcut.outputs) == (entry, channels)
            assert block.shortcut.stride == block_stride
        else:
            assert (entry, block_stride) == (channels, 1)
        if block.gate:
            assert block.gate[0].inputs == block.gate[1].outputs == channels
        stride *= block_stride
    assert channels == network.embedding_size
    assert stride == 4 * last_stride


@pytest.mark.parametrize(
    ("name", "strides", "kernels", "groups"),
    [
        ("resnet18", (2, 1), (3, 3), (1, 1)),
        ("resnet50", (1, 2, 1), (1, 3, 1), (1, 1, 1)),
        ("resnet50_ibn_a", (1, 2, 1), (1, 3, 1), (1, 1, 1)),
        ("se_resnet50", (2, 1, 1), (1, 3, 1), (1, 1, 1)),
        ("se_resnext50", (1, 2, 1), (1, 3, 1), (1, 32, 1)),
        ("senet154", (1, 2, 1), (1, 3, 1), (1, 64, 1)),
    ],
)
def test_where_a_stage_strides(
    name: str, strides: tuple[int, ...], kernels: tuple[int, ...], groups: tuple[int, ...]
) -> None:
    """No checkpoint shows strides: the families differ in which convolution carries them."""
    blocks = {block.name: block for block in residual_blocks(name)}
    layers = blocks["layer2.0"].layers
    assert tuple(layer.stride for layer in layers) == strides
    assert tuple(layer.kernel for layer in layers) == kernels
    assert tuple(layer.groups for layer in layers) == groups
    assert all(layer.padding == layer.kernel // 2 for layer in layers)
    assert {layer.stride for layer in blocks["layer2.1"].layers} == {1}
    assert {layer.stride for layer in blocks["layer4.0"].layers} == {1}
    shortcut = blocks["layer2.0"].shortcut
    assert shortcut is not None
    assert shortcut.kernel == (3 if name == "senet154" else 1)
    assert blocks["layer2.1"].shortcut is None


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_pooling_behind_the_stem(name: str) -> None:
    pool = networks.backbone(Network(name)).pool
    senet = name.startswith("se")
    assert (pool.kernel, pool.stride) == (3, 2)
    assert (pool.padding, pool.ceil) == ((0, True) if senet else (1, False))


def test_instance_norms_are_in_the_first_three_stages_only() -> None:
    for block in residual_blocks("resnet50_ibn_a"):
        kinds = [layer.norm for layer in block.layers]
        first = "batch" if block.name.startswith("layer4") else "half_instance"
        assert kinds == [first, "batch", "batch"]


def test_facts_are_values() -> None:
    assert networks.backbone(Network("senet154")) == networks.backbone(Network("senet154"))
    assert networks.backbone(Network("resnet50")) != networks.backbone(Network("resnet50", True, 2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Network("resnet50").last_stride = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"architecture": "resnet51"}, "'resnet51'.*resnet18.*senet154"),
        ({"architecture": "resnet50", "last_stride": 3}, "3, expected 1 or 2"),
        ({"architecture": "resnet50", "classes": 0}, "0 classes"),
    ],
)
def test_impossible_networks_are_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Network(**facts)


# The graphs, against the reference's own vectors.


@pytest.fixture(scope="module", params=BY_SIZE)
def each(request: pytest.FixtureRequest) -> str:
    """A network's name; a module's fixture, so that all that needs its weights comes together."""
    return str(request.param)


def test_vectors_are_the_reference_vectors(each: str) -> None:
    tensors = golden.tensors(each)
    images = golden.inputs(0)
    after = run(build(tensors, size=(256, 128)), images)
    assert difference(after, golden.features(f"{each}_after")) < 5e-6
    before = run(build(tensors, size=(256, 128), neck="before"), images[:1])
    assert difference(before, golden.features(f"{each}_before")[:1]) < 5e-6


def test_vectors_with_last_stride_2_and_an_odd_size(each: str) -> None:
    images = golden.inputs(1)
    model = build(golden.tensors(each), size=(75, 42), last_stride=2)
    found = run(model, images)[:, :128]
    assert difference(found, golden.features(f"{each}_stride2")) < 5e-6


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a", "se_resnext50"])
@pytest.mark.parametrize("neck", ["after", "before"])
def test_folded_equals_unfolded(name: str, neck: Literal["after", "before"]) -> None:
    images = np.random.default_rng(1).standard_normal((2, 3, 64, 32), dtype=np.float32)
    tensors = golden.tensors(name)
    folded = build(tensors, neck=neck)
    unfolded = build(tensors, neck=neck, fold=False)
    assert difference(run(folded, images), run(unfolded, images)) < 5e-6
    operators = [node.op_type for node in folded.graph.node]
    assert "BatchNormalization" not in operators
    assert "BatchNormalization" in [node.op_type for node in unfolded.graph.node]


@pytest.mark.parametrize("half", [0, 32])
def test_folding_channel_by_channel(half: int) -> None:
    """The first half of an IBN layer's channels goes into an instance norm, and is not folded."""
    name = "resnet50_ibn_a" if half else "resnet18"
    tensors = golden.tensors(name)
    layer = "base.layer1.0.conv1"
    norm = "base.layer1.0.bn1" + (".BN" if half else "")
    model = build(tensors)
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for channel in range(64):
        factor, shift = 1.0, 0.0
        if channel >= half:
            weight, bias, mean, variance = (
                float(tensors[f"{norm}.{part}"][channel - half])
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            factor = weight / (variance + 1e-5) ** 0.5
            shift = bias - mean * factor
        expected = tensors[f"{layer}.weight"][channel] * factor
        assert np.allclose(held[f"{layer}.weight"][channel], expected, rtol=1e-6, atol=0)
        assert held[f"{layer}.bias"][channel] == pytest.approx(shift, rel=1e-6, abs=1e-9)


def test_without_bnneck_both_necks_are_the_same_file() -> None:
    tensors = golden.tensors("resnet50_noneck")
    assert serialise(build(tensors)) == serialise(build(tensors, neck="before"))


@settings(max_examples=10, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_picture_has_the_same_vector_in_any_batch(sizes: list[int]) -> None:
    session = _small_session()
    images = np.random.default_rng(2).standard_normal((sum(sizes), 3, 32, 16), dtype=np.float32)
    whole = np.asarray(session.run(None, {"image": images})[0])
    ends = np.cumsum(sizes)
    parts = [
        np.asarray(session.run(None, {"image": images[end - size : end]})[0])
        for end, size in zip(ends, sizes, strict=True)
    ]
    assert difference(np.concatenate(parts), whole) < 1e-5


def _small_session() -> Any:
    if not _SESSIONS:
        model = build(golden.tensors("resnet18"), size=(32, 16))
        _SESSIONS.append(onnxruntime.InferenceSession(serialise(model)))
    return _SESSIONS[0]


_SESSIONS: list[Any] = []


def test_the_graph_is_what_the_package_promises() -> None:
    model = build(golden.tensors("resnet18"), size=(48, 24))
    onnx.checker.check_model(model, full_check=True)
    (image,), (vector,) = model.graph.input, model.graph.output
    sides = image.type.tensor_type.shape.dim
    assert (image.name, vector.name) == ("image", "embedding")
    assert [side.dim_param or side.dim_value for side in sides] == ["batch", 3, 48, 24]
    sides = vector.type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in sides] == ["batch", 512]
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT}
    operators = [node.op_type for node in model.graph.node]
    # 20 convolutions, and a ReLU behind each of two layers in 8 blocks: none behind the stem.
    assert (operators.count("Conv"), operators.count("Relu")) == (20, 16)


def test_the_same_weights_give_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib\n"
        "from tests import golden_networks as golden, test_networks as tests\n"
        "model = tests.build(golden.tensors('resnet18'))\n"
        "print(hashlib.sha256(tests.serialise(model)).hexdigest())"
    )
    tensors = golden.tensors("resnet18")
    shuffled = {key: tensors[key] for key in sorted(tensors, key=hash)}
    expected = hashlib.sha256(serialise(build(shuffled))).hexdigest()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=golden.GOLDEN.parent.parent,
        )
        assert done.stdout.strip() == expected


def test_what_no_vector_depends_on_does_not_change_the_bytes() -> None:
    tensors = golden.tensors("resnet18")
    lean = {key: tensors[key] for key in networks.used_tensors(Network("resnet18"))}
    assert serialise(build(lean)) == serialise(build(tensors))


def test_one_changed_weight_changes_the_vector() -> None:
    images = np.random.default_rng(3).standard_normal((1, 3, 64, 32), dtype=np.float32)
    tensors = golden.tensors("resnet18")
    original = run(build(tensors), images)
    for key in ("base.bn1.running_var", "base.layer3.1.bn2.bias", "bottleneck.running_mean"):
        changed = tensors | {key: tensors[key] + np.float32(0.5)}
        assert difference(run(build(changed), images), original) > 1e-3, key


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floating_types_become_float32(dtype: Any) -> None:
    tensors = {key: values.astype(dtype) for key, values in golden.tensors("resnet18").items()}
    rounded = {key: values.astype(np.float32) for key, values in tensors.items()}
    assert serialise(build(tensors)) == serialise(build(rounded))


@pytest.mark.parametrize(("height", "width"), [(15, 128), (256, 8), (0, 16)])
def test_too_small_a_picture_is_refused(height: int, width: int) -> None:
    with pytest.raises(ArgumentError, match=f"{height}x{width}, expected at least 16"):
        networks.build_model(Network("resnet18"), {}, height=height, width=width)


@pytest.mark.parametrize("name", ["resnet18", "se_resnet50"])
def test_the_smallest_picture_works(name: str) -> None:
    image = np.ones((1, 3, 16, 16), np.float32)
    assert np.isfinite(run(build(golden.tensors(name), size=(16, 16), last_stride=2), image)).all()


def test_an_unknown_neck_is_refused() -> None:
    neck: Any = "output"
    with pytest.raises(ArgumentError, match="neck is 'output'"):
        networks.build_model(Network("resnet18"), {}, height=64, width=32, neck=neck)


@pytest.mark.parametrize(
    ("name", "norm", "part"),
    [
        ("resnet18", "base.bn1", "weight"),
        ("resnet18", "base.layer4.1.bn2", "running_mean"),
        ("resnet18", "bottleneck", "weight"),
        ("resnet50_ibn_a", "base.layer1.0.bn1.BN", "weight"),
    ],
)
def test_a_batch_norm_that_cannot_be_folded_is_named(name: str, norm: str, part: str) -> None:
    tensors = dict(golden.tensors(name))
    size = len(tensors[f"{norm}.weight"])
    tensors[f"{norm}.running_var"] = np.zeros(size, np.float32)
    tensors[f"{norm}.{part}"] = np.full(size, 3e38, np.float32)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        build(tensors)
    text = str(caught.value)
    assert f"the batch norm {norm} into" in text
    assert "take a checkpoint from before the training went wrong" in text
    build(tensors, fold=False)


# Which network is this?


@pytest.mark.parametrize("name", EVERY)
def test_every_network_is_recognised(name: str) -> None:
    expected = Network(name.removesuffix("_noneck"), "noneck" not in name, 1, 751)
    assert networks.recognise(blank(name)) == expected
    networks.check_tensors(expected, blank(name))


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a", "resnet50_noneck"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_what_is_unused_may_be_missing(name: str, data: st.DataObject) -> None:
    tensors = blank(name)
    used = set(networks.used_tensors(Network(name.removesuffix("_noneck"))))
    # A bias without its weight is no classifier, so the two go together.
    unused = sorted(key for key in tensors if key not in used and key != "classifier.bias")
    for key in data.draw(st.sets(st.sampled_from(unused))):
        del tensors[key]
    if "classifier.weight" not in tensors:
        tensors.pop("classifier.bias", None)
    found = networks.recognise(tensors)
    assert found.architecture == name.removesuffix("_noneck")
    assert found.bnneck == ("noneck" not in name)
    assert found.classes == (751 if "classifier.weight" in tensors else None)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), name=st.sampled_from(EVERY))
def test_one_wrong_tensor_is_named(data: st.DataObject, name: str) -> None:
    tensors = blank(name)
    network = networks.recognise(tensors)
    used = networks.used_tensors(network)
    key = data.draw(st.sampled_from(used))
    values = tensors.pop(key)
    fault = data.draw(st.sampled_from(["missing", "renamed", "longer", "scalar"]))
    if fault == "renamed":
        tensors[f"{key}.old"] = values
    elif fault == "longer":
        tensors[key] = np.broadcast_to(np.float32(0), (values.shape[0] + 1, *values.shape[1:]))
    elif fault == "scalar":
        tensors[key] = np.zeros((), np.float32)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        networks.recognise(tensors)
    assert f"the nearest is {network.architecture} with" in str(caught.value)
    assert key in str(caught.value)
    with pytest.raises(IncompatibleCheckpointError, match=f"not those of {network.architecture}"):
        networks.check_tensors(network, tensors)


def test_the_message_lists_ten_of_each_and_counts_the_rest() -> None:
    tensors = {k: v for k, v in blank("resnet18").items() if not k.startswith("base.layer4.1")}
    tensors |= {f"extra.{i}": np.zeros(1, np.float32) for i in range(12)}
    tensors["base.conv1.weight"] = np.zeros((64, 3, 3, 3), np.float32)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        networks.recognise(tensors)
    text = str(caught.value)
    assert "nearest is resnet18 with BNNeck" in text
    assert "10 missing: base.layer4.1.conv1.weight, " in text
    assert "12 unexpected: extra.0, extra.1" in text
    assert "extra.9, ... and 2 more" in text
    assert "extra.10" not in text
    assert "1 of another shape: base.conv1.weight (64, 3, 3, 3), expected (64, 3, 7, 7)" in text


HOSTILE = "evil\x1b[2Jkey\r\n\u202e" + "x" * 5000


@pytest.mark.parametrize("known", [True, False])
def test_keys_cannot_write_to_the_terminal(known: bool) -> None:
    tensors = (blank("resnet18") if known else {}) | {HOSTILE: np.zeros(1, np.float32)}
    with pytest.raises(IncompatibleCheckpointError) as caught:
        networks.recognise(tensors)
    text = str(caught.value)
    assert r"evil\x1b[2Jkey\r\n\u202exxx" in text
    assert text.isascii()
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text) < 800, "a long key is cut"


@given(st.text(max_size=200))
def test_any_key_is_shown_in_plain_letters(name: str) -> None:
    shown = show_name(name)
    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert len(shown) <= 123
    if name.isascii() and name.isidentifier():
        assert shown.removesuffix("...") == name[:120]


def test_a_named_architecture_is_the_one_compared_to() -> None:
    tensors = blank("resnet50")
    assert networks.recognise(tensors, architecture="resnet50", last_stride=2).last_stride == 2
    with pytest.raises(IncompatibleCheckpointError, match="not those of resnet34 with BNNeck"):
        networks.recognise(tensors, architecture="resnet34")
    with pytest.raises(ArgumentError, match="resnet51"):
        networks.recognise(tensors, architecture="resnet51")


@pytest.mark.parametrize("count", [0, 1, 30])
def test_tensors_of_nothing_known(count: int) -> None:
    tensors: Tensors = {f"encoder.{i}.weight": np.zeros((2, 2), np.float32) for i in range(count)}
    with pytest.raises(IncompatibleCheckpointError, match=f"none of the {count} tensors"):
        networks.recognise(tensors)


def test_a_backbone_without_its_prefix_is_nothing_known() -> None:
    tensors = {key.removeprefix("base."): values for key, values in blank("resnet50").items()}
    del tensors["bottleneck.num_batches_tracked"]
    with pytest.raises(IncompatibleCheckpointError) as caught:
        networks.recognise(tensors)
    assert "the nearest is" in str(caught.value)
    bare = {key: v for key, v in tensors.items() if not key.startswith(("bottle", "class"))}
    with pytest.raises(IncompatibleCheckpointError, match=r"none of the 318 tensors \(conv1"):
        networks.recognise(bare)


def test_a_lost_bnneck_is_noticed() -> None:
    tensors = {k: v for k, v in blank("resnet50").items() if not k.startswith("bottleneck")}
    with pytest.raises(IncompatibleCheckpointError, match=r"4 missing: bottleneck\.weight"):
        networks.recognise(tensors)
    # Without the classifier nothing tells it from a network that never had one.
    del tensors["classifier.weight"]
    assert networks.recognise(tensors) == Network("resnet50", bnneck=False)


def test_any_number_of_classes_but_no_other_shape() -> None:
    tensors = blank("resnet18")
    tensors["classifier.weight"] = np.zeros((7, 512), np.float32)
    assert networks.recognise(tensors).classes == 7
    networks.check_tensors(Network("resnet18", classes=751), tensors)
    networks.check_tensors(Network("resnet18"), tensors)
    tensors["classifier.weight"] = np.zeros((7, 2048), np.float32)
    with pytest.raises(IncompatibleCheckpointError, match=r"classifier.weight \(7, 2048\)"):
        networks.recognise(tensors)
    tensors["classifier.weight"] = np.zeros((0, 512), np.float32)
    with pytest.raises(IncompatibleCheckpointError, match=r"unexpected: classifier.weight"):
        networks.recognise(tensors)


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("base.conv1.weight", np.nan, r"base.conv1.weight \(holds NaN"),
        ("base.bn1.bias", -np.inf, r"base.bn1.bias \(holds NaN, infinity"),
        ("bottleneck.weight", np.float64(1e39), r"bottleneck.weight \(holds .* beyond float32"),
        ("base.bn1.running_var", -0.25, r"base.bn1.running_var \(holds a negative variance, -0.25"),
        ("base.bn1.weight", np.int64(1), r"base.bn1.weight \(int64, expected floating point"),
        ("base.bn1.weight", np.bool_(True), r"base.bn1.weight \(bool, expected floating point"),
        ("base.bn1.weight", np.complex64(1), r"base.bn1.weight \(complex64, expected"),
    ],
)
def test_unusable_numbers_are_named(key: str, values: Any, words: str) -> None:
    tensors = blank("resnet18")
    wrong = np.zeros(tensors[key].shape, np.asarray(values).dtype)
    wrong.flat[-1] = values
    tensors[key] = wrong
    with pytest.raises(
        IncompatibleCheckpointError, match=f"1 of 104 tensors are unusable: {words}"
    ):
        networks.recognise(tensors)


def test_unused_tensors_may_hold_anything() -> None:
    tensors = blank("resnet50_ibn_a")
    tensors["classifier.weight"] = np.full((5, 2048), np.nan, np.float32)
    tensors["base.fc.weight"] = np.zeros((3, 4), np.int8)
    tensors["base.bn1.num_batches_tracked"] = np.zeros(1, np.float32)
    assert networks.recognise(tensors).classes == 5
