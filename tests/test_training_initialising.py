"""Pretrained weights into a network: which layouts are taken, and what is refused."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from reidkit import networks
from reidkit.errors import (
    ArgumentError,
    CheckpointError,
    IncompatibleCheckpointError,
    MissingExtraError,
)
from reidkit.networks import Network

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.training._initialising import load_pretrained  # noqa: E402 - needs torch
from reidkit.training._network import (  # noqa: E402
    ReidNetwork,
    build_network,
    state_as_arrays,
)

Tensors = dict[str, NDArray[Any]]
OSNET = Network("osnet_x0_25", classes=4)
RESNET = Network("resnet18", classes=4)


def backbone_of(network: Network, prefix: str, seed: int = 9) -> Tensors:
    """The backbone's tensors of another network, under names with another prefix."""
    own = networks.backbone(network).prefix
    tensors = networks.initial_tensors(network, seed=seed)
    return {
        prefix + name.removeprefix(own): values + np.float32(0.25)
        for name, values in tensors.items()
        if name.startswith(own) and not name.startswith(("bottleneck", "classifier", "gem"))
    }


def save(tensors: Tensors, folder: Path) -> str:
    path = folder / "weights.safetensors"
    save_file(tensors, path)
    return str(path)


@pytest.mark.parametrize("network", [RESNET, OSNET], ids=["resnet18", "osnet"])
@pytest.mark.parametrize("prefix", ["", "base.", "module.encoder."])
def test_a_backbone_is_found_whatever_its_prefix(
    network: Network, prefix: str, tmp_path: Path
) -> None:
    source = backbone_of(network, prefix)
    last = {"last.weight": np.zeros((1000, 7), np.float32), "last.bias": np.zeros(1000, np.float32)}
    module = build_network(network, seed=0)
    before = state_as_arrays(module)
    loaded = load_pretrained(module, network, save({**source, **last}, tmp_path))

    after, own = state_as_arrays(module), networks.backbone(network).prefix
    expected = {own + name.removeprefix(prefix): values for name, values in source.items()}
    assert set(loaded.loaded) == set(expected)
    assert set(loaded.skipped) == set(last)
    assert set(loaded.loaded) | set(loaded.kept) == set(networks.tensor_shapes(network))
    for name, values in after.items():
        assert np.array_equal(values, expected.get(name, before[name])), name


def test_the_layout_of_imagenet_resnets(tmp_path: Path) -> None:
    """Names as torchvision has them, whose first files have no counters."""
    source = backbone_of(RESNET, "")
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias"} <= set(source)
    source["fc.weight"] = np.zeros((1000, 512), np.float32)
    module = build_network(RESNET, seed=0)
    loaded = load_pretrained(module, RESNET, save(source, tmp_path))
    assert loaded.skipped == ("fc.weight",)
    assert "base.bn1.num_batches_tracked" in loaded.kept
    assert np.array_equal(module.base.conv1.weight.detach(), source["conv1.weight"])


def test_the_layout_of_public_osnets(tmp_path: Path) -> None:
    source = {**backbone_of(OSNET, ""), "classifier.weight": np.zeros((1000, 512), np.float32)}
    module = build_network(OSNET, seed=0)
    loaded = load_pretrained(module, OSNET, save(source, tmp_path))
    assert loaded.skipped == ("classifier.weight",)
    assert np.array_equal(module.state_dict()["fc.0.weight"], source["fc.0.weight"])


@pytest.mark.parametrize("classes", [4, 751])
def test_another_training_gives_its_head_but_not_its_classifier(
    classes: int, tmp_path: Path
) -> None:
    other = Network("osnet_x0_25", classes=classes, pooling="gem")
    source = {
        name: np.array(values + (0.5 if values.dtype == np.float32 else 3), values.dtype)
        for name, values in state_as_arrays(build_network(other, seed=7)).items()
    }
    network = Network("osnet_x0_25", classes=4, pooling="gem")
    module = build_network(network, seed=0)
    loaded = load_pretrained(module, network, save(source, tmp_path))
    assert loaded.skipped == loaded.kept == ("classifier.weight",)
    after = state_as_arrays(module)
    assert after["gem.p"] == 3.5
    assert np.array_equal(after["bottleneck.weight"], source["bottleneck.weight"])
    assert after["conv1.bn.num_batches_tracked"] == 3


def test_a_neck_that_is_not_complete_is_left_out(tmp_path: Path) -> None:
    source = backbone_of(OSNET, "")
    source["bottleneck.weight"] = np.full(512, 2, np.float32)
    module = build_network(OSNET, seed=0)
    loaded = load_pretrained(module, OSNET, save(source, tmp_path))
    assert loaded.skipped == ("bottleneck.weight",)
    assert (module.bottleneck.weight == 1).all()


def test_the_unused_classifier_of_an_ibn_network_is_kept_where_it_belongs(tmp_path: Path) -> None:
    network = Network("resnet50_ibn_a")
    source = backbone_of(network, "")
    assert source["fc.weight"].shape == (1000, 2048)
    with torch.device("meta"):
        module = ReidNetwork(network)
    module.to_empty(device="cpu")
    loaded = load_pretrained(module, network, save(source, tmp_path))
    assert loaded.skipped == ()
    assert np.array_equal(module.base.fc.weight, source["fc.weight"])
    assert "base.fc.weight" in loaded.loaded


def test_what_is_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    source = backbone_of(OSNET, "")
    del source["conv2.0.gate.fc1.bias"]
    source["conv5.conv.weight"] = np.zeros((3, 3, 1, 1), np.float32)
    source["conv1.bn.weight"] = np.full(16, np.nan, np.float32)
    module = build_network(OSNET, seed=0)
    before = state_as_arrays(module)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        load_pretrained(module, OSNET, save(source, tmp_path))
    for part in (
        "weights.safetensors cannot start osnet_x0_25",
        "1 missing: conv2.0.gate.fc1.bias",
        "conv5.conv.weight (3, 3, 1, 1), expected (128, 128, 1, 1)",
        "1 not finite numbers: conv1.bn.weight",
    ):
        assert part in str(caught.value)
    after = state_as_arrays(module)
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        IncompatibleCheckpointError, match="100 tensors of its backbone are 99 missing: "
    ):
        load_pretrained(
            build_network(RESNET, seed=0), RESNET, save(backbone_of(OSNET, ""), tmp_path)
        )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pth"):
        load_pretrained(build_network(OSNET, seed=0), OSNET, str(tmp_path / "absent.pth"))


# Weights that timm fetches, here from a stand-in for it.


def test_timm_gives_the_weights_that_the_baseline_starts_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = backbone_of(RESNET, "")
    asked: list[tuple[str, bool]] = []

    def create_model(name: str, pretrained: bool) -> Any:
        asked.append((name, pretrained))
        state = {key: torch.from_numpy(values) for key, values in source.items()}
        return types.SimpleNamespace(state_dict=lambda: state)

    library = types.SimpleNamespace(create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", library)
    module = build_network(RESNET, seed=0)
    loaded = load_pretrained(module, RESNET, "timm")
    assert asked == [("resnet18.tv_in1k", True)]
    assert len(loaded.loaded) == len(source)
    assert np.array_equal(module.base.conv1.weight.detach(), source["conv1.weight"])


def test_timm_without_a_connection_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(name: str, pretrained: bool) -> Any:
        raise OSError("no route to host")

    library = types.SimpleNamespace(create_model=create_model)
    monkeypatch.setitem(sys.modules, "timm", library)
    with pytest.raises(CheckpointError, match=r"resnet18.tv_in1k \(no route to host\)"):
        load_pretrained(build_network(RESNET, seed=0), RESNET, "timm")


def test_timm_has_no_weights_for_every_network() -> None:
    with pytest.raises(ArgumentError, match="no weights for osnet_x0_25, only for resnet18, "):
        load_pretrained(build_network(OSNET, seed=0), OSNET, "timm")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"reidkit\[timm\]"):
        load_pretrained(build_network(RESNET, seed=0), RESNET, "timm")
