"""Two processes that train together against one that takes both their batches for each step."""

from __future__ import annotations

import copy
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest

from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.errors import ArgumentError
from reidkit.exporting import export_package
from reidkit.training import read_run, train
from reidkit.training._recipe import Recipe
from tests.drawn_people import quick_recipe, score
from tests.torch_threads import one_thread as one_thread

torch = pytest.importorskip("torch", reason="torch is not installed")

from torch import multiprocessing  # noqa: E402 - needs torch

from reidkit.training import _distributed, _stepping  # noqa: E402 - needs torch
from reidkit.training._distributed import Ranks, joined  # noqa: E402 - needs torch
from reidkit.training._feeding import Batch  # noqa: E402
from reidkit.training._network import build_network  # noqa: E402 - needs torch
from reidkit.training._objective import Objective  # noqa: E402 - needs torch
from reidkit.training._stepping import Stepper  # noqa: E402 - needs torch

ALONE = Ranks(0, 1, torch.device("cpu"))
PROCESSES, PEOPLE = 2, 2
PATIENCE = 120
HEIGHT, WIDTH = 32, 16
RATE = 1e-4
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 2},
    "half": {"precision": "float16"},
}
"""Recipes of which an epoch of three steps is compared."""


def recipe_of(**changes: Any) -> Recipe:
    plain: dict[str, Any] = {
        "height": HEIGHT,
        "width": WIDTH,
        "batch": 8,
        "instances": 2,
        "optimiser": "sgd",
        "metric_weight": 0.5,
        "center_weight": 0.001,
    }
    return quick_recipe(**(plain | changes))


def stepper_of(recipe: Recipe, ranks: Ranks, *, scale: float = 64.0) -> Stepper:
    network = build_network(recipe.network(PEOPLE), seed=0)
    stepper = Stepper(Objective(network, recipe, classes=PEOPLE), recipe, ranks)
    state = stepper.state()
    if state["scaler"]:
        state["scaler"]["scale"] = scale
        stepper.restore(state)
    return stepper


def make_batch(seed: int) -> Batch:
    """Make noisy pictures of two people in stripes."""
    chance = np.random.default_rng(seed)
    stripes = np.random.default_rng(99).integers(0, 256, (PEOPLE, 4, 1, 3))
    labels = np.array([0, 0, 1, 1], np.int64)
    looks = stripes.repeat(HEIGHT // 4, axis=1).repeat(WIDTH, axis=2)[labels]
    pixels = np.clip(looks + chance.integers(-60, 61, looks.shape), 0, 255).astype(np.uint8)
    paths = np.array([f"{row}.jpg" for row in range(4)], object)
    return Batch(pixels, np.zeros((4, 4), np.int64), labels, np.arange(4), paths)


def weights(stepper: Stepper) -> dict[str, Any]:
    return {name: each.detach().clone() for name, each in stepper.objective.named_parameters()}


def gradients(stepper: Stepper) -> dict[str, Any]:
    named = stepper.objective.named_parameters()
    return {name: each.grad.clone() for name, each in named if each.grad is not None}


class Counted(_stepping.DistributedDataParallel):  # type: ignore[misc, name-defined]
    """What averages the gradients, counted."""

    made = 0
    alive: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        Counted.made += 1
        Counted.alive.add(self)


# What each process does.


def work(rank: int, folder: Path, ports: list[int]) -> None:
    """Train in one of the processes, and save what came out of each way."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(PROCESSES), "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"MASTER_PORT": str(ports[0]), "GLOO_SOCKET_IFNAME": "lo"}
    with joined("cpu") as ranks:
        found = {name: train_epoch(recipe_of(**way), ranks) for name, way in WAYS.items()}
        found["thawed"] = thaw(ranks)
        found["overflowing"] = overflow(ranks)
        found["aligned"] = align(ranks)
        found["resumed"] = resume(ranks)
        found["places"] = {
            "gathered": ranks.gather((rank, "x" * rank)),
            "place": (ranks.rank, ranks.count, ranks.first, str(ranks.device)),
        }
        torch.save(found, folder / f"{rank}.pth")
    os.environ["MASTER_PORT"] = str(ports[1])
    (folder / f"{rank}.left").write_text(str(train_together(folder)))


def train_together(folder: Path) -> int:
    """Train as users do; tell how much there was left to use the connection as it was closed."""
    left = []
    close = torch.distributed.destroy_process_group

    def count_and_close() -> None:
        left.append(len(Counted.alive))
        close()

    recipe = quick_recipe(height=HEIGHT, width=WIDTH, epochs=1)
    with (
        mock.patch.object(_stepping, "DistributedDataParallel", Counted),
        mock.patch.object(torch.distributed, "destroy_process_group", count_and_close),
    ):
        train(load_dataset("market1501", folder / "people"), recipe, folder / "run")
    return left[0]


def train_epoch(recipe: Recipe, ranks: Ranks) -> dict[str, Any]:
    """Train three steps; keep the gradients after the first, too, where that changes nothing."""
    stepper = stepper_of(recipe, ranks)
    stepper.begin(rate=RATE, frozen=False)
    for step in range(3):
        stepper.step(make_batch(step * PROCESSES + ranks.rank), last=step == 2)
        if step == 0:
            first = gradients(stepper)
    return {"weights": weights(stepper), "first": first}


def thaw(ranks: Ranks) -> dict[str, Any]:
    """Train epochs of one step: two with the backbone frozen, and two without."""
    stepper = stepper_of(recipe_of(), ranks)
    counts = []
    with mock.patch.object(_stepping, "DistributedDataParallel", Counted):
        for epoch, frozen in enumerate((True, True, False, False)):
            stepper.begin(rate=RATE, frozen=frozen)
            stepper.step(make_batch(epoch * PROCESSES + ranks.rank), last=True)
            counts.append(Counted.made)
    return {"weights": weights(stepper), "made": counts}


def overflow(ranks: Ranks) -> dict[str, Any]:
    """Train a step whose gradients are too large in one of the processes only."""
    recipe = recipe_of(precision="float16")
    stepper = stepper_of(recipe, ranks, scale=64.0)
    stepper.begin(rate=RATE, frozen=False)
    if ranks.first:
        stepper.objective.network.classifier.weight.register_hook(lambda each: each * torch.inf)
    before = weights(stepper)
    stepper.step(make_batch(ranks.rank), last=True)
    after = weights(stepper)
    changed = [name for name, each in after.items() if not torch.equal(each, before[name])]
    return {"changed": changed, "scale": stepper.state()["scaler"]["scale"]}


def align(ranks: Ranks) -> dict[str, Any]:
    """Train a step, after which the running statistics differ, and make them one."""
    stepper = stepper_of(recipe_of(), ranks)
    stepper.begin(rate=RATE, frozen=False)
    stepper.step(make_batch(ranks.rank), last=True)
    network = stepper.objective.network
    before = {name: each.clone() for name, each in network.named_buffers()}
    ranks.align(network)
    return {"before": before, "after": dict(network.named_buffers())}


def resume(ranks: Ranks) -> dict[str, Any]:
    """Train epochs of one step: the third also from the state that the second left."""
    recipe = recipe_of(optimiser="adam", ema_decay=0.5)
    stepper = stepper_of(recipe, ranks)
    for epoch in range(2):
        stepper.begin(rate=RATE, frozen=False)
        stepper.step(make_batch(epoch * PROCESSES + ranks.rank), last=True)
    ranks.align(stepper.objective.network)
    again = stepper_of(recipe, ranks)
    again.restore(copy.deepcopy(stepper.state()))
    ends = []
    for each in (stepper, again):
        each.begin(rate=RATE, frozen=False)
        each.step(make_batch(2 * PROCESSES + ranks.rank), last=True)
        with each.averaged():
            ends.append({"average": weights(each)})
        ends[-1]["weights"] = weights(each)
    return {"unbroken": ends[0], "again": ends[1]}


# What came of it.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start the processes, and give the folder that they worked in."""
    folder = tmp_path_factory.mktemp("found")
    draw_dataset(folder / "people", people=8, cameras=2, seed=3, workers=1)
    with socket.socket() as first, socket.socket() as second:
        probes = (first, second)
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in probes]
    processes = multiprocessing.spawn(work, (folder, ports), nprocs=PROCESSES, join=False)
    end = time.monotonic() + PATIENCE
    while not processes.join(timeout=1):
        if time.monotonic() > end:
            for process in processes.processes:
                process.kill()
            raise AssertionError("the processes wait for each other for good")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """Give what each of the processes found."""
    return [torch.load(folder / f"{rank}.pth", weights_only=True) for rank in range(PROCESSES)]


def train_alone(recipe: Recipe, epochs: list[tuple[bool, int]]) -> dict[str, Any]:
    """Train in one process, with epochs of (is it frozen, steps) of the two processes."""
    stepper, batch = stepper_of(recipe, ALONE), 0
    for frozen, steps in epochs:
        stepper.begin(rate=RATE, frozen=frozen)
        for step in range(steps * PROCESSES):
            stepper.step(make_batch(batch), last=step == steps * PROCESSES - 1)
            batch += 1
    return weights(stepper)


def assert_learnt_alike(found: dict[str, Any], wanted: dict[str, Any], recipe: Recipe) -> None:
    """Compare what was learnt, relative to the largest change of each tensor."""
    before = weights(stepper_of(recipe, ALONE))
    assert found.keys() == wanted.keys() == before.keys()
    for name, begun in before.items():
        change = wanted[name] - begun
        assert (change != 0).any() or name.endswith("bottleneck.bias"), name
        # A weight of 1 and more is known to 1e-7 only.
        limit = 1e-3 * change.abs().max().item() + 1e-6
        assert (found[name] - wanted[name]).abs().max().item() <= limit, name


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_as_one_with_both_their_batches(
    found: list[dict[str, Any]], way: str
) -> None:
    settings = WAYS[way]
    together = settings | {"accumulate": settings.get("accumulate", 1) * PROCESSES}
    wanted = train_alone(recipe_of(**together), [(False, 3)])
    for each in found:
        assert_learnt_alike(each[way]["weights"], wanted, recipe_of(**settings))
    first, second = (each[way]["weights"] for each in found)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_processes_wait_for_each_other_only_where_weights_change(
    found: list[dict[str, Any]],
) -> None:
    """Before that each has the gradients of its own batch."""
    for rank, each in enumerate(found):
        recipe = recipe_of(**WAYS["accumulated"])
        alone = stepper_of(recipe, ALONE)
        alone.begin(rate=RATE, frozen=False)
        alone.step(make_batch(rank), last=False)
        wanted = gradients(alone)
        for name, gradient in each["accumulated"]["first"].items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


def test_processes_learn_what_is_no_longer_frozen(found: list[dict[str, Any]]) -> None:
    epochs = [(frozen, 1) for frozen in (True, True, False, False)]
    wanted = train_alone(recipe_of(accumulate=PROCESSES), epochs)
    for each in found:
        assert_learnt_alike(each["thawed"]["weights"], wanted, recipe_of())
        # What averages the gradients is made anew only where others learn.
        assert each["thawed"]["made"] == [1, 1, 2, 2]


def test_no_process_steps_where_one_has_gradients_that_are_too_large(
    found: list[dict[str, Any]],
) -> None:
    assert [each["overflowing"] for each in found] == [{"changed": [], "scale": 32.0}] * PROCESSES


def test_processes_go_on_from_a_state_as_if_unbroken(found: list[dict[str, Any]]) -> None:
    for each in found:
        for kind, wanted in each["resumed"]["unbroken"].items():
            for name, weight in wanted.items():
                assert torch.equal(each["resumed"]["again"][kind][name], weight), (kind, name)
                assert torch.equal(found[0]["resumed"]["again"][kind][name], weight), (kind, name)


def test_running_statistics_become_the_first_process_s(found: list[dict[str, Any]]) -> None:
    first, second = (each["aligned"] for each in found)
    assert any(
        not torch.equal(first["before"][name], each) for name, each in second["before"].items()
    )
    for each in (first, second):
        for name, wanted in first["before"].items():
            assert torch.equal(each["after"][name], wanted), name


def test_every_process_validates_the_network_that_is_kept(folder: Path) -> None:
    """The running statistics of the last step are each process's own: they must not be scored."""
    run = read_run(folder / "run")
    dataset = load_dataset("market1501", folder / "people")
    contract = run.recipe.contract
    package = export_package(run.checkpoint("last"), folder / "package", contract=contract)
    assert run.scores["mAP"] == pytest.approx(score(package, dataset), abs=1e-3)


def test_nothing_uses_the_connection_any_more_once_it_is_closed(folder: Path) -> None:
    """The last one to let go of it ends its threads, and gradients' averaging does so while it
    keeps Python from running, which one of those threads may wait for: then neither goes on.
    """
    assert [(folder / f"{rank}.left").read_text() for rank in range(PROCESSES)] == ["0", "0"]


def test_processes_know_their_places(found: list[dict[str, Any]]) -> None:
    assert [each["places"]["place"] for each in found] == [
        (0, 2, True, "cpu"),
        (1, 2, False, "cpu"),
    ]
    assert [each["places"]["gathered"] for each in found] == [[(0, ""), (1, "x")]] * PROCESSES


def test_a_process_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    module = torch.nn.BatchNorm1d(2)
    with joined("cpu") as ranks:
        assert ranks == ALONE
        assert ranks.first
        assert ranks.gather("x") == ["x"]
        ranks.align(module)
    assert not torch.distributed.is_initialized()


def test_several_processes_take_a_gpu_of_their_own_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(_distributed, "parse_device", lambda _: ("cuda", 0))
    with pytest.raises(ArgumentError, match="'cuda:0' for 2 processes"), joined("cuda:0"):
        raise AssertionError("joined")
