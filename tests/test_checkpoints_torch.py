"""Checkpoints that torch itself writes, read without it and compared with torch's own values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit import checkpoints
from reidkit.errors import CheckpointError
from tests.checkpoint_files import STORAGES, write_legacy, write_zip

torch: Any = pytest.importorskip("torch")

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(path: Path, value: object, zipped: bool) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same(found: checkpoints.Checkpoint, expected: Any) -> None:
    assert list(found.tensors) == list(expected)
    for key, tensor in expected.items():
        exact = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
        array = found.tensors[key]
        assert array.shape == tuple(tensor.shape), key
        assert array.dtype == exact.resolve_conj().numpy().dtype, key
        np.testing.assert_array_equal(array, exact.numpy(), err_msg=key)


def network() -> Any:
    torch.manual_seed(3)
    trunk = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, bias=False), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
    )
    model = torch.nn.Sequential()
    model.add_module("base", trunk)
    model.add_module("head", torch.nn.Linear(4, 2))
    model.register_buffer("seen", torch.arange(3))
    model.register_buffer("scratch", torch.ones(2), persistent=False)
    model.register_parameter("empty", None)
    return model


def tricky() -> dict[str, Any]:
    base = torch.arange(24.0).reshape(4, 6)
    shared = torch.arange(10.0)
    tensors = {
        "transposed": base.t(),
        "row": base[2],
        "column": base[:, 3],
        "steps": base[::2, 1::2],
        "first half": shared[:5],
        "second half": shared[5:],
        "overlap": shared[3:8],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "channels last": torch.randn(1, 3, 2, 2).to(memory_format=torch.channels_last),
        "complex": torch.tensor([1 + 2j, 3 - 1j]),
        "bool": torch.tensor([True, False, True]),
    }
    names = "float16 bfloat16 float64 uint8 int8 int16 int32 int64 uint16 uint32 uint64"
    for name in names.split():
        tensors[name] = torch.tensor([0, 1, 2, 100]).to(getattr(torch, name))
    tensors["bfloat16 strided"] = torch.randn(4, 3).bfloat16().t()
    return tensors


@FORMATS
def test_every_type_and_layout_has_torch_values(tmp_path: Path, zipped: bool) -> None:
    tensors = tricky()
    assert_same(checkpoints.read(save(tmp_path / "a.pth", tensors, zipped)), tensors)


@FORMATS
def test_a_whole_network_gives_its_state_dict(tmp_path: Path, zipped: bool) -> None:
    model = network()
    found = checkpoints.read(save(tmp_path / "a.pth", model, zipped))
    assert_same(found, model.state_dict())
    assert found.form == "pickled module of class torch.nn.modules.container.Sequential"


@FORMATS
def test_a_data_parallel_network_gives_the_same(tmp_path: Path, zipped: bool) -> None:
    model = network()
    found = checkpoints.read(save(tmp_path / "a.pth", torch.nn.DataParallel(model), zipped))
    assert_same(found, model.state_dict())


@FORMATS
def test_a_training_checkpoint_gives_the_network(tmp_path: Path, zipped: bool) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model.head(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    parts = {
        "optimizer": optimizer.state_dict(),
        "epoch": 120,
        "best": torch.tensor(0.94),
        "mAP": np.float64(0.86),
        "model": model.state_dict(),
        "device": torch.device("cpu"),
        "size": torch.Size([256, 128]),
        "type": torch.float16,
    }
    found = checkpoints.read(save(tmp_path / "a.pth", parts, zipped))
    assert_same(found, model.state_dict())
    assert found.form == "state dict under 'model'"
    with pytest.raises(CheckpointError, match="optimizer"):
        checkpoints.read(save(tmp_path / "o.pth", optimizer.state_dict(), zipped))
    with pytest.raises(CheckpointError, match="optimizer"):
        checkpoints.read(save(tmp_path / "p.pth", optimizer, zipped))


@FORMATS
def test_attributes_on_parameters_and_tensors_do_no_harm(tmp_path: Path, zipped: bool) -> None:
    parameter, tensor = torch.nn.Parameter(torch.ones(2)), torch.zeros(3)
    parameter.note = tensor.note = {"frozen": True}
    tensors = {"a": parameter, "b": tensor}
    assert_same(checkpoints.read(save(tmp_path / "a.pth", tensors, zipped)), tensors)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sparse", lambda: torch.eye(3).to_sparse()),
        ("sparse", lambda: torch.eye(3).to_sparse_csr()),
        ("quantised", lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        ("meta", lambda: torch.ones(3, device="meta")),
        ("float8_e4m3fn", lambda: torch.ones(3).to(torch.float8_e4m3fn)),
        ("conjugated", lambda: torch.ones(3, dtype=torch.complex64).conj()),
    ],
)
@FORMATS
def test_other_kinds_of_tensors_are_refused_by_key(
    tmp_path: Path, kind: str, make: Any, zipped: bool
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = save(tmp_path / "a.pth", {"fine": torch.ones(2), "odd": make()}, zipped)
    with pytest.raises(CheckpointError, match=rf"holds 1 tensors of kinds .*'odd' \(.*{kind}"):
        checkpoints.read(path)


@FORMATS
@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read_but_the_first(
    tmp_path: Path, zipped: bool, protocol: int
) -> None:
    tensors = {"a": torch.arange(3), "b": torch.nn.Parameter(torch.ones(2))}
    path = tmp_path / "a.pth"
    torch.save(tensors, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    if protocol == 0:
        with pytest.raises(CheckpointError, match="pickle protocol 0"):
            checkpoints.read(path)
    else:
        assert_same(checkpoints.read(path), tensors)


@FORMATS
def test_a_large_mask_in_a_small_file_is_read(tmp_path: Path, zipped: bool) -> None:
    tensors = {"w": torch.ones(3), "mask": torch.ones(1, 1).expand(1000, 1000)}
    assert_same(checkpoints.read(save(tmp_path / "a.pth", tensors, zipped)), tensors)


def test_checkpoints_without_checksums_are_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tmp_path / "a.pth", {"a": torch.arange(3)}, True)
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(checkpoints.read(path).tensors["a"], [0, 1, 2])


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network().base, torch.ones(1, 3, 8, 8)), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"TorchScript.*original checkpoint"):
        checkpoints.read(tmp_path / "a.pt")


@pytest.mark.parametrize("wrap", [None, "model"])
def test_torch_reads_the_files_that_the_tests_write(tmp_path: Path, wrap: str | None) -> None:
    arrays = {f"a.{name}": np.arange(6).reshape(2, 3).astype(name) for name in STORAGES}
    arrays["scalar"] = np.asarray(7)
    for write in (write_legacy, write_zip):
        found = torch.load(write(tmp_path / "a.pth", arrays, wrap=wrap))
        found = found[wrap] if wrap else found
        assert_same(checkpoints.read(tmp_path / "a.pth"), found)
