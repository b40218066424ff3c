"""Optimisers against torch's own with a group for each tensor; centres; running averages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from reidkit.errors import ArgumentError, MismatchError
from reidkit.training._recipe import Recipe

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.training._losses import center_loss  # noqa: E402 - needs torch
from reidkit.training._optimising import (  # noqa: E402 - needs torch
    Average,
    make_center_optimiser,
    make_optimiser,
    set_learning_rate,
    step_centers,
)

GOLDEN = Path(__file__).parent / "golden" / "training.npz"
OPTIMISERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
UNLIKE = Recipe(
    learning_rate=0.02,
    bias_learning_rate_factor=2.0,
    weight_decay=0.1,
    bias_weight_decay=0.0,
    momentum=0.8,
)


def network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    # No bias before the batch norm: its gradient is rounding only, which Adam makes large.
    convolution = torch.nn.Conv2d(3, 8, 3, bias=False)
    norm, linear = torch.nn.BatchNorm2d(8), torch.nn.Linear(32, 4)
    module = torch.nn.Sequential(convolution, norm, torch.nn.Flatten(), linear)
    module[1].bias.requires_grad_(False)
    return module


def learn(module: Any, optimiser: Any, step: int) -> None:
    chance = torch.Generator().manual_seed(step)
    images = torch.randn((5, 3, 4, 4), generator=chance)
    optimiser.zero_grad()
    module(images).square().mean().backward()
    optimiser.step()


def per_tensor(module: Any, recipe: Recipe) -> Any:
    """Make the optimiser as the reference does: a group for each tensor."""
    groups = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            bias = "bias" in name
            rate = recipe.learning_rate * (recipe.bias_learning_rate_factor if bias else 1)
            decay = recipe.bias_weight_decay if bias else recipe.weight_decay
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    extra = {"momentum": recipe.momentum} if recipe.optimiser == "sgd" else {}
    return OPTIMISERS[recipe.optimiser](groups, foreach=False, **extra)


def assert_alike(first: Any, second: Any, tolerance: float = 1e-6) -> None:
    wanted = second.state_dict()
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=tolerance, atol=tolerance)


def recipe_with(optimiser: str, **settings: Any) -> Recipe:
    fields = {name: getattr(UNLIKE, name) for name in Recipe.__dataclass_fields__}
    return Recipe(**(fields | {"optimiser": optimiser} | settings))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_steps_are_those_of_a_group_for_each_tensor(optimiser: str, layout: Any) -> None:
    recipe = recipe_with(optimiser)
    ours, theirs = network().to(memory_format=layout), network()
    fast, plain = make_optimiser(ours, recipe), per_tensor(theirs, recipe)
    for step in range(4):
        learn(ours, fast, step)
        learn(theirs, plain, step)
    assert_alike(ours, theirs)
    assert torch.equal(ours[1].bias, torch.zeros(8)), "what is frozen is left out"


def test_equal_settings_are_one_group() -> None:
    groups = make_optimiser(network(), Recipe()).param_groups
    assert [len(group["params"]) for group in groups] == [4]
    groups = make_optimiser(network(), UNLIKE).param_groups
    assert [len(group["params"]) for group in groups] == [3, 1]
    assert [group["factor"] for group in groups] == [1.0, 2.0]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_a_rate_is_set_with_each_factor() -> None:
    optimiser = make_optimiser(network(), UNLIKE)
    assert [group["lr"] for group in optimiser.param_groups] == [0.02, 0.04]
    set_learning_rate(optimiser, 0.3)
    assert [group["lr"] for group in optimiser.param_groups] == [0.3, 0.6]


def test_a_set_rate_is_the_rate_of_the_step() -> None:
    ours, theirs = network(), network()
    fast = make_optimiser(ours, UNLIKE)
    set_learning_rate(fast, 0.001)
    learn(ours, fast, 0)
    learn(theirs, per_tensor(theirs, recipe_with("adam", learning_rate=0.001)), 0)
    assert_alike(ours, theirs)


def test_what_is_frozen_for_a_while_stays_and_learns_later() -> None:
    module = network()
    optimiser = make_optimiser(module, UNLIKE)
    kept = module[0].weight.detach().clone()
    module[0].requires_grad_(False)
    learn(module, optimiser, 0)
    assert torch.equal(module[0].weight, kept), "neither decay nor moments touch it"
    module[0].requires_grad_(True)
    learn(module, optimiser, 1)
    assert not torch.equal(module[0].weight, kept)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ArgumentError, match="there is nothing to train"):
        make_optimiser(network().requires_grad_(False), Recipe())


def saved_and_loaded(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_saved_optimiser_goes_on_to_the_same_weights(
    optimiser: Literal["adam", "adamw", "sgd"], layout: Any
) -> None:
    recipe = recipe_with(optimiser)
    unbroken, resumed = network().to(memory_format=layout), network(1).to(memory_format=layout)
    first = make_optimiser(unbroken, recipe)
    learn(unbroken, first, 0)
    state = saved_and_loaded(first.state_dict())
    resumed.load_state_dict(unbroken.state_dict())
    learn(unbroken, first, 1)
    second = make_optimiser(resumed, recipe)
    second.load_state_dict(state)
    assert [group["factor"] for group in second.param_groups] == [1.0, 2.0]
    learn(resumed, second, 1)
    assert_alike(resumed, unbroken, 0)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_moments_of_another_memory_layout_are_laid_out_anew(optimiser: str) -> None:
    recipe = recipe_with(optimiser)
    contiguous, other = network(), network()
    first = make_optimiser(contiguous, recipe)
    learn(contiguous, first, 0)
    other.load_state_dict(contiguous.state_dict())
    other.to(memory_format=torch.channels_last)
    second = make_optimiser(other, recipe)
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    learn(contiguous, first, 1)
    learn(other, second, 1)
    assert_alike(other, contiguous)


def test_a_gradient_scaler_steps_as_without_it() -> None:
    ours, theirs = network(), network()
    fast, plain = make_optimiser(ours, UNLIKE), per_tensor(theirs, UNLIKE)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    images = torch.randn((5, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    for module, optimiser in ((ours, fast), (theirs, plain)):
        loss = module(images).square().mean()
        if module is ours:
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
        else:
            loss.backward()
            optimiser.step()
    assert_alike(ours, theirs)
    ours.zero_grad()
    (scaler.scale(ours(images).square().mean()) * torch.inf).backward()
    kept = ours[0].weight.detach().clone()
    scaler.step(fast)
    assert torch.equal(ours[0].weight, kept), "a step with infinite gradients is left out"


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_centers_step_as_if_their_loss_had_no_weight(scale: float) -> None:
    with np.load(GOLDEN) as arrays:
        features, labels, start, gradient = (
            torch.from_numpy(arrays[name])
            for name in ("feat", "labels", "centers", "center_centers_grad")
        )
    centers = torch.nn.Parameter(start.clone())
    recipe = Recipe()
    optimiser = make_center_optimiser(centers, recipe)
    loss = recipe.center_weight * center_loss(features, labels, centers)
    (loss * scale).backward()
    step_centers(optimiser, centers, recipe.center_weight * scale)
    torch.testing.assert_close(centers.detach(), start - 0.5 * gradient, rtol=1e-6, atol=1e-6)


def test_centers_without_gradient_stay() -> None:
    centers = torch.nn.Parameter(torch.ones(3, 2))
    step_centers(make_center_optimiser(centers, Recipe()), centers, 0.0005)
    assert torch.equal(centers, torch.ones(3, 2))
    with pytest.raises(ArgumentError, match="weight is 0, expected more than 0"):
        step_centers(make_center_optimiser(centers, Recipe()), centers, 0)


def test_average_follows_its_formula() -> None:
    module = network()
    average = Average(module, 0.5)
    expected = {name: value.detach().clone() for name, value in module.named_parameters()}
    optimiser = make_optimiser(module, UNLIKE)
    # 2/11 and 3/12 while the average is young; from the ninth update on 10/19 is past 0.5.
    for step in range(1, 12):
        learn(module, optimiser, step)
        average.update(module)
        kept = min(0.5, (1 + step) / (10 + step))
        for name, value in module.named_parameters():
            expected[name] = kept * expected[name] + (1 - kept) * value.detach()
    for name, value in average.state_dict()["tensors"].items():
        torch.testing.assert_close(value, expected[name])
    assert average.updates == 11


def test_average_is_in_the_module_only_meanwhile() -> None:
    module = network()
    average, optimiser = Average(module, 0.9), make_optimiser(module, UNLIKE)
    for step in range(3):
        learn(module, optimiser, step)
        average.update(module)
    own = {name: value.clone() for name, value in module.state_dict().items()}
    means = average.state_dict()["tensors"]
    with average.swapped(module):
        for name, value in module.state_dict().items():
            # Buffers are the module's own.
            assert torch.equal(value, means.get(name, own[name])), name
        assert not torch.equal(module[0].weight, own["0.weight"])
    with pytest.raises(ZeroDivisionError), average.swapped(module):
        _ = 1 / 0
    for name, value in module.state_dict().items():
        assert torch.equal(value, own[name]), name


def test_average_without_decay_is_the_last_weights() -> None:
    module = network()
    average = Average(module, 0.0)
    learn(module, make_optimiser(module, UNLIKE), 0)
    average.update(module)
    for name, value in module.named_parameters():
        torch.testing.assert_close(average.state_dict()["tensors"][name], value.detach())


def test_a_saved_average_goes_on() -> None:
    module = network()
    average, other = Average(module, 0.9), Average(network(1), 0.9)
    learn(module, make_optimiser(module, UNLIKE), 0)
    average.update(module)
    other.load_state_dict(saved_and_loaded(average.state_dict()))
    for each in (average, other):
        each.update(network(2))
    first, second = average.state_dict(), other.state_dict()
    assert first["updates"] == second["updates"] == 2
    for name, value in first["tensors"].items():
        assert torch.equal(value, second["tensors"][name])


def test_an_average_of_another_network_is_refused() -> None:
    average = Average(network(), 0.9)
    state = Average(torch.nn.Linear(2, 2), 0.9).state_dict()
    with pytest.raises(MismatchError, match="7 tensors are missing, unknown or of another shape"):
        average.load_state_dict(state)
    with pytest.raises(MismatchError, match="7 parameters belong to one of them only"):
        average.update(torch.nn.Linear(2, 2))
    wider = Average(torch.nn.Linear(3, 2), 0.9).state_dict()
    with pytest.raises(MismatchError, match="1 tensors"):
        Average(torch.nn.Linear(2, 2), 0.9).load_state_dict(wider)
    with pytest.raises(ArgumentError, match=r"decay is 1.0, expected"):
        Average(network(), 1.0)
