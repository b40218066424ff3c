"""Whole networks as torch 0.3 to 1.1 pickled them, written by hand after those versions' code."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit import checkpoints
from reidkit.errors import UnsafeCheckpointError
from tests import checkpoint_files as files
from tests.checkpoint_files import Call, Global, Persistent, Raw, ordered, storage, tensor

LAYERS = "torch.nn.modules"
BACKEND = Global("torch.nn.backends.thnn", "_get_thnn_function_backend")


@dataclass
class Part:
    """A module: its class, the modules in it, its parameters and buffers, its attributes."""

    home: str
    name: str
    modules: dict[str, Part] = field(default_factory=dict)
    parameters: dict[str, NDArray[Any] | None] = field(default_factory=dict)
    buffers: dict[str, NDArray[Any]] = field(default_factory=dict)
    attributes: dict[str, object] = field(default_factory=dict)


class OldPickler:
    """Writes modules with class and source code in a persistent id the first time, the class
    alone from then on; the backend called for the first time, out of the memo from then on."""

    def __init__(self, backend: Global = BACKEND) -> None:
        self.backend = files._code(Call(backend, ())) + b"q\x63"
        self.classes: set[str] = set()
        self.arrays: dict[str, NDArray[Any]] = {}

    def write(self, part: Part) -> bytes:
        kind = files._code(self.kind(part))
        fields = {"_backend": self.backend}
        self.backend = b"h\x63"
        fields |= {"_parameters": files._code(ordered(self.parameters(part)))}
        fields |= {"_buffers": files._code(ordered(self.buffers(part)))}
        for name in ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks"):
            fields[name] = files._code(ordered({}))
        inside = {name: Raw(self.write(inner)) for name, inner in part.modules.items()}
        fields |= {"_modules": files._code(ordered(inside)), "training": b"\x88"}
        fields |= {name: files._code(value) for name, value in part.attributes.items()}
        state = b"".join(files._code(name) + code for name, code in fields.items())
        return kind + b")\x81}(" + state + b"ub"

    def kind(self, part: Part) -> object:
        named = Global(part.home, part.name)
        if part.name in self.classes:
            return named
        self.classes.add(part.name)
        source = f"class {part.name}(nn.Module):\n    def forward(self, x):\n        return x\n"
        return Persistent(("module", named, f"/code/{part.home}.py", source))

    def parameters(self, part: Part) -> dict[str, object]:
        rebuild = Global("torch._utils", "_rebuild_parameter")
        return {
            name: None if array is None else Call(rebuild, (self.tensor(array), True, ordered({})))
            for name, array in part.parameters.items()
        }

    def buffers(self, part: Part) -> dict[str, object]:
        return {name: self.tensor(array) for name, array in part.buffers.items()}

    def tensor(self, array: NDArray[Any]) -> Call:
        key = str(94_000_000 + len(self.arrays))
        self.arrays[key] = array.ravel()
        identity = storage(key, array.dtype.name, array.size, location="cuda:0")
        return tensor((*identity, None), array.shape)


def strong_baseline() -> Part:
    """The strong baseline in small, in data-parallel training."""
    ones = np.ones(3, np.float32)
    kernel = np.arange(9, dtype=np.float32).reshape(3, 3, 1, 1)
    seen: dict[str, NDArray[Any]] = {"running_mean": ones * 5}
    seen["num_batches_tracked"] = np.asarray(7, np.int64)
    norm: dict[str, NDArray[Any] | None] = {"weight": ones * 2, "bias": ones * 0}
    convolution = Part(
        f"{LAYERS}.conv", "Conv2d", {}, {"weight": kernel, "bias": None}, {}, {"stride": (1, 1)}
    )
    block = {
        "conv1": convolution,
        "bn1": Part(f"{LAYERS}.batchnorm", "BatchNorm2d", {}, norm, seen, {"eps": 1e-5}),
        "relu": Part(f"{LAYERS}.activation", "ReLU", attributes={"threshold": 0, "value": 0}),
    }
    resnet = "modeling.backbones.resnet"
    bottleneck = Part(resnet, "Bottleneck", block, attributes={"downsample": None, "stride": 1})
    again = Part(resnet, "Bottleneck", {"conv1": convolution}, attributes={"downsample": None})
    layer = Part(f"{LAYERS}.container", "Sequential", {"0": bottleneck, "1": again})
    parts = {
        "base": Part(resnet, "ResNet", {"layer1": layer}, attributes={"inplanes": 64}),
        "gap": Part(f"{LAYERS}.pooling", "AdaptiveAvgPool2d", attributes={"output_size": 1}),
        "classifier": Part(f"{LAYERS}.linear", "Linear", {}, {"weight": kernel[:, :, 0, 0]}),
    }
    attributes: dict[str, object] = {"neck": "bnneck", "neck_feat": "after", "num_classes": 3}
    whole = Part("modeling.baseline", "Baseline", parts, attributes=attributes)
    devices: dict[str, object] = {"dim": 0, "device_ids": [0, 1], "output_device": 0}
    home = "torch.nn.parallel.data_parallel"
    return Part(home, "DataParallel", {"module": whole}, attributes=devices)


def test_a_whole_strong_baseline_of_torch_before_1_2(tmp_path: Path) -> None:
    pickler = OldPickler()
    code = pickler.write(strong_baseline())
    assert code.count(b"_get_thnn_function_backend") == 1
    assert code.count(b"h\x63") > 5
    assert code.count(b"class Bottleneck") == 1
    path = tmp_path / "resnet50_model_120.pth"
    found = checkpoints.read(files.write_legacy_content(path, Raw(code), pickler.arrays))
    assert found.form == "pickled module of class torch.nn.parallel.data_parallel.DataParallel"
    tensors = found.tensors
    assert {key: (array.shape, array.max()) for key, array in tensors.items()} == {
        "base.layer1.0.conv1.weight": ((3, 3, 1, 1), 8),
        "base.layer1.0.bn1.weight": ((3,), 2),
        "base.layer1.0.bn1.bias": ((3,), 0),
        "base.layer1.0.bn1.running_mean": ((3,), 5),
        "base.layer1.0.bn1.num_batches_tracked": ((), 7),
        "base.layer1.1.conv1.weight": ((3, 3, 1, 1), 8),
        "classifier.weight": ((3, 3), 8),
    }
    assert tensors["classifier.weight"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_another_call_in_the_backends_place_is_refused(tmp_path: Path) -> None:
    pickler = OldPickler(Global("torch.nn.backends.thnn", "load_backend"))
    code = pickler.write(strong_baseline())
    path = files.write_legacy_content(tmp_path / "a.pth", Raw(code), pickler.arrays)
    with pytest.raises(UnsafeCheckpointError, match=r"unknown call .*thnn\.load_backend"):
        checkpoints.read(path)


def test_parameters_of_torch_0_3(tmp_path: Path) -> None:
    # `Parameter(data)`, then a state of (requires_grad, is_volatile, hooks).
    made = tensor((*storage("7", "float32", 2), None), (2,))
    parameter = files._code(Call(Global("torch.nn.parameter", "Parameter"), (made,)))
    stated = Raw(parameter + files._code((True, False, ordered({}))) + b"b")
    arrays: dict[str, NDArray[Any]] = {"7": np.array([3, 4], np.float32)}
    path = files.write_legacy_content(tmp_path / "a.pth", {"w": stated}, arrays)
    assert checkpoints.read(path).tensors["w"].tolist() == [3, 4]
