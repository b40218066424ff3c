"""Steps of training: what the network is shown, and what changes by how much."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from reidkit import preprocess
from reidkit.training._recipe import Recipe
from tests.drawn_people import quick_recipe
from tests.torch_threads import one_thread as one_thread

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.training._distributed import Ranks  # noqa: E402 - needs torch
from reidkit.training._feeding import Batch  # noqa: E402
from reidkit.training._losses import center_loss  # noqa: E402 - needs torch
from reidkit.training._network import build_network  # noqa: E402 - needs torch
from reidkit.training._objective import Objective  # noqa: E402 - needs torch
from reidkit.training._stepping import Stepper  # noqa: E402 - needs torch

ALONE = Ranks(0, 1, torch.device("cpu"))
PEOPLE = 4
HEIGHT, WIDTH = 32, 16


def recipe_of(**changes: Any) -> Recipe:
    """Give a recipe whose steps are plain: SGD without momentum or decay."""
    plain: dict[str, Any] = {
        "height": HEIGHT,
        "width": WIDTH,
        "batch": 8,
        "instances": 2,
        "optimiser": "sgd",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "bias_weight_decay": 0.0,
        "center_weight": 0.01,
    }
    return quick_recipe(**(plain | changes))


def stepper_of(recipe: Recipe, *, seed: int = 0) -> Stepper:
    network = build_network(recipe.network(PEOPLE), seed=seed)
    return Stepper(Objective(network, recipe, classes=PEOPLE), recipe, ALONE)


def begin(stepper: Stepper, *, rate: float = 1.0, frozen: bool = False) -> None:
    """Begin an epoch in which norms use their statistics, so that pictures are independent."""
    stepper.begin(rate=rate, frozen=frozen)
    stepper.objective.network.eval()


def make_batch(count: int = 8, seed: int = 0) -> Batch:
    """Make noisy pictures of a few people in stripes, who can be told apart."""
    stripes = np.random.default_rng(99).integers(0, 256, (PEOPLE, 4, 1, 3))
    looks = stripes.repeat(HEIGHT // 4, axis=1).repeat(WIDTH, axis=2)
    labels = np.arange(count) // 2 % PEOPLE
    noise = np.random.default_rng(seed).integers(-60, 61, (count, HEIGHT, WIDTH, 3))
    pixels = np.clip(looks[labels] + noise, 0, 255).astype(np.uint8)
    paths = np.array([f"{row}.jpg" for row in range(count)], object)
    erased = np.zeros((count, 4), np.int64)
    return Batch(pixels, erased, labels.astype(np.int64), np.arange(count), paths)


def part(batch: Batch, rows: slice) -> Batch:
    names = ("pixels", "erased", "labels", "rows", "paths")
    return Batch(*(getattr(batch, name)[rows] for name in names))


def tensors(stepper: Stepper) -> dict[str, Any]:
    """Copy all that a step may change, running statistics included."""
    return {name: tensor.clone() for name, tensor in stepper.objective.state_dict().items()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def learnt(stepper: Stepper, *batches: Batch) -> dict[str, Any]:
    """Give what the batches of an epoch change in each parameter."""
    before = tensors(stepper)
    for number, batch in enumerate(batches, 1):
        stepper.step(batch, last=number == len(batches))
    after = tensors(stepper)
    names = [name for name, _ in stepper.objective.named_parameters()]
    return {name: after[name] - before[name] for name in names}


def plain_gradients(stepper: Stepper, batch: Batch) -> dict[str, Any]:
    """Compute the gradients of the loss of one batch, zeros where there are none."""
    objective = stepper.objective
    named = {name: each for name, each in objective.named_parameters() if each.requires_grad}
    total = objective(*stepper.images(batch)).total
    found = torch.autograd.grad(total, list(named.values()))
    zeros = {name: torch.zeros_like(each) for name, each in objective.named_parameters()}
    return zeros | dict(zip(named, found, strict=True))


def assert_alike(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = 1e-4) -> None:
    """Compare tensors, relative to the largest value of each."""
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        largest = tensor.abs().max().item()
        assert (found[name] - tensor).abs().max().item() <= tolerance * largest + 1e-6, name


# What the network is shown.


def erase_some(batch: Batch) -> Batch:
    rectangles = [(0, 0, 5, 3), (0, 0, 0, 0), (27, 10, 5, 6), (3, 2, 1, 14), (0, 0, 32, 16)]
    batch.erased[: len(rectangles)] = rectangles
    return batch


@pytest.mark.parametrize("channels_last", [False, True])
def test_pictures_are_normalised_and_erased_with_the_mean(channels_last: bool) -> None:
    recipe = recipe_of(channels_last=channels_last, mean=(0.5, 0.25, 0.125))
    stepper, batch = stepper_of(recipe), erase_some(make_batch())
    images, labels = stepper.images(batch)
    wanted = np.empty((8, 3, HEIGHT, WIDTH), np.float32)
    for row in range(8):
        preprocess.normalise(batch.pixels[row], recipe.contract, wanted[row])
        top, left, height, width = batch.erased[row]
        for down in range(top, top + height):
            for across in range(left, left + width):
                wanted[row, :, down, across] = recipe.mean
    np.testing.assert_array_equal(images.numpy(), wanted)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert images.is_contiguous(memory_format=layout)
    assert stepper.objective.network.conv1.conv.weight.is_contiguous(memory_format=layout)
    np.testing.assert_array_equal(labels.numpy(), batch.labels)


def test_what_a_step_was_shown_outlives_the_batch() -> None:
    """The reader fills a batch's memory again, and a failed one is saved after that."""
    stepper, batch = stepper_of(recipe_of()), erase_some(make_batch())
    images, labels = stepper.images(batch)
    copies = images.clone(), labels.clone()
    for values in (batch.pixels, batch.labels, batch.erased):
        values.fill(1)
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])


# What one step changes.


def test_a_step_goes_along_the_gradient_of_the_total() -> None:
    recipe = recipe_of(metric_weight=0.5, bias_learning_rate_factor=2.0, center_weight=0.02)
    stepper, batch = stepper_of(recipe), erase_some(make_batch())
    begin(stepper, rate=0.25)
    assert stepper.rate == 0.25
    gradients = plain_gradients(stepper, batch)
    wanted = {
        name: gradient * (-0.25 * (2 if "bias" in name else 1))
        for name, gradient in gradients.items()
    }
    # The centres learn at a rate of their own from a loss that is not weighted.
    wanted["centers"] = gradients["centers"] * (-0.5 / 0.02)
    assert_alike(learnt(stepper, batch), wanted)


def test_a_step_gives_its_losses() -> None:
    stepper, batch = stepper_of(recipe_of()), make_batch()
    begin(stepper)
    wanted = stepper.objective(*stepper.images(batch))
    step = stepper.step(batch, last=False)
    assert [loss.item() for loss in step.losses] == [loss.item() for loss in wanted]
    assert not any(loss.requires_grad for loss in step.losses)
    assert torch.equal(step.images, stepper.images(batch)[0])
    np.testing.assert_array_equal(step.labels.numpy(), batch.labels)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_centres_step_by_the_plain_gradient(precision: str) -> None:
    """Whatever the weight of their loss, and the scale of half-precision gradients."""
    recipe = recipe_of(precision=precision, center_weight=0.003, center_learning_rate=0.3)
    stepper, batch = stepper_of(recipe), make_batch()
    scale_by(stepper, 64.0)
    stepper.begin(rate=1e-3, frozen=False)
    centers = stepper.objective.centers
    assert centers is not None
    images, labels = stepper.images(batch)
    with torch.no_grad(), torch.autocast("cpu", *stepper.objective._reduced()):
        pooled = stepper.objective.network(images).pooled.float()
    (gradient,) = torch.autograd.grad(center_loss(pooled, labels, centers), centers)
    change = learnt(stepper, batch)["centers"]
    assert_alike({"centers": change}, {"centers": -0.3 * gradient})


# Several batches for one step.


def test_two_half_batches_are_one_batch() -> None:
    """Where a picture's loss depends on no other picture."""
    batch = make_batch()
    whole = stepper_of(recipe_of(metric_loss="none"))
    halves = stepper_of(recipe_of(metric_loss="none", accumulate=2))
    begin(whole)
    begin(halves)
    wanted = learnt(whole, batch)
    # The first of the two alone changes nothing.
    before = tensors(halves)
    halves.step(part(batch, slice(4)), last=False)
    assert not changed(before, tensors(halves))
    halves.step(part(batch, slice(4, 8)), last=False)
    after = tensors(halves)
    assert_alike({name: after[name] - before[name] for name in wanted}, wanted)


def test_the_last_batches_of_an_epoch_count_as_much_as_others() -> None:
    """Of five batches in threes the last two make a step, with the mean of both."""
    batches = [make_batch(4, seed) for seed in range(5)]
    stepper, other = (stepper_of(recipe_of(accumulate=size)) for size in (3, 2))
    for each in (stepper, other):
        begin(each, rate=1e-4)
    for batch in batches[:3]:
        stepper.step(batch, last=False)
    other.objective.load_state_dict(stepper.objective.state_dict())
    wanted = learnt(other, *batches[3:])
    assert_alike(learnt(stepper, *batches[3:]), wanted)
    # The next epoch begins to count anew.
    begin(stepper)
    before = tensors(stepper)
    for batch in batches[:2]:
        stepper.step(batch, last=False)
    assert not changed(before, tensors(stepper))


def test_an_epoch_begins_without_gradients_of_the_one_before() -> None:
    batch = make_batch()
    stepper = stepper_of(recipe_of(accumulate=2))
    begin(stepper)
    gradients = plain_gradients(stepper, batch)
    stepper.step(make_batch(seed=7), last=False)
    begin(stepper)
    change = learnt(stepper, batch)
    del change["centers"], gradients["centers"]
    assert_alike(change, {name: -gradient for name, gradient in gradients.items()})


# Parts that are frozen.


def is_backbone(name: str) -> bool:
    alone = ("network.gem.", "network.bottleneck.", "network.classifier.", "centers")
    return not name.startswith(alone)


def test_a_frozen_backbone_stays_with_its_statistics() -> None:
    stepper = stepper_of(recipe_of(pooling="gem", momentum=0.9, weight_decay=0.1))
    stepper.begin(rate=0.01, frozen=True)
    before = tensors(stepper)
    for seed in range(2):
        stepper.step(make_batch(seed=seed), last=False)
    found = changed(before, tensors(stepper))
    assert found == {
        *("network.gem.p", "network.bottleneck.weight", "network.classifier.weight", "centers"),
        *(
            f"network.bottleneck.{name}"
            for name in ("running_mean", "running_var", "num_batches_tracked")
        ),
    }


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_a_backbone_that_is_no_longer_frozen_learns(optimiser: str) -> None:
    stepper = stepper_of(recipe_of(optimiser=optimiser, momentum=0.9))
    stepper.begin(rate=1e-3, frozen=True)
    stepper.step(make_batch(), last=True)
    stepper.begin(rate=1e-3, frozen=False)
    before = tensors(stepper)
    stepper.step(make_batch(), last=True)
    found = changed(before, tensors(stepper))
    assert found == {name for name in before if name != "network.bottleneck.bias"}
    stepper.begin(rate=1e-3, frozen=True)
    before = tensors(stepper)
    stepper.step(make_batch(), last=True)
    assert not any(map(is_backbone, changed(before, tensors(stepper))))


# Half precision.


def scale_by(stepper: Stepper, scale: float) -> None:
    """Set the scale of half-precision gradients, if there is one."""
    state = stepper.state()
    if state["scaler"]:
        state["scaler"]["scale"] = scale
        stepper.restore(state)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_gradients_that_are_too_large_change_nothing(optimiser: str) -> None:
    """Neither weights nor centres nor moments: the next step is as if there had been none."""
    recipe = recipe_of(precision="float16", optimiser=optimiser, momentum=0.9, weight_decay=0.01)
    batch = make_batch()
    stepper, untouched = stepper_of(recipe), stepper_of(recipe)
    scale_by(stepper, 2.0**40)
    for each in (stepper, untouched):
        each.begin(rate=1e-3, frozen=False)
    with torch.no_grad():  # for the running statistics, which are of all that was seen
        untouched.objective(*untouched.images(batch))
    assert not any(change.any() for change in learnt(stepper, batch).values())
    assert stepper.state()["scaler"]["scale"] == 2.0**39
    for each in (stepper, untouched):
        scale_by(each, 64.0)
        change = learnt(each, batch)
        assert all(change[name].any() for name in ("centers", "network.classifier.weight"))
    assert_same(stepper.state(), untouched.state())


def test_half_precision_steps_as_full_precision_does() -> None:
    """Closely in the last layers; what rounding does to a gradient grows towards the first."""
    changes = []
    for precision in ("float32", "float16"):
        stepper = stepper_of(recipe_of(precision=precision))
        scale_by(stepper, 64.0)
        stepper.begin(rate=1e-3, frozen=False)
        changes.append(learnt(stepper, make_batch()))
    for name in ("fc.1.weight", "bottleneck.weight", "classifier.weight"):
        full, half = (change[f"network.{name}"].flatten() for change in changes)
        assert half.norm().item() == pytest.approx(full.norm().item(), rel=0.1)
        assert torch.cosine_similarity(full, half, dim=0) > 0.95


def test_half_precision_learns_once_its_scale_has_settled() -> None:
    """Until then no step is taken; in the end the losses are those of full precision."""
    ends = []
    for precision in ("float32", "float16"):
        stepper = stepper_of(recipe_of(precision=precision, momentum=0.9, center_weight=5e-4))
        stepper.begin(rate=5e-3, frozen=False)
        begun = tensors(stepper)["network.classifier.weight"]
        for _ in range(20):  # 2 ** 20 is more than the scale begins with
            stepper.step(make_batch(4), last=False)
            if not torch.equal(stepper.objective.network.classifier.weight, begun):
                break
        losses = [stepper.step(make_batch(4, seed), last=False).losses for seed in range(1, 40)]
        totals = [loss.total.item() for loss in losses]
        assert np.mean(totals[-10:]) < np.mean(totals[:5]) / 2
        ends.append(np.mean(totals[-10:]))
        scale = stepper.state()["scaler"].get("scale", 1.0)
    assert ends[1] == pytest.approx(ends[0], rel=0.5)
    assert 16 <= scale < 2**16


# What is kept.


def assert_same(first: Any, second: Any, *, without: tuple[str, ...] = ()) -> None:
    """Compare states of dicts, lists, tensors and numbers, bit for bit."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - set(without):
            assert_same(first[key], second[key], without=without)
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            assert_same(*pair, without=without)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimiser": "adam", "ema_decay": 0.9},
        {"optimiser": "adamw", "center_weight": 0.0},
        {"optimiser": "sgd", "momentum": 0.9, "precision": "float16"},
        {"optimiser": "sgd", "momentum": 0.9, "channels_last": True},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_a_restored_stepper_goes_on_as_the_one_before(settings: dict[str, Any]) -> None:
    recipe = recipe_of(**settings)
    stepper, again = stepper_of(recipe), stepper_of(recipe, seed=1)
    scale_by(stepper, 256.0)
    stepper.begin(rate=1e-3, frozen=False)
    for seed in range(2):
        stepper.step(make_batch(seed=seed), last=True)
    again.restore(through_a_file(stepper.state()))
    assert_same(again.state(), stepper.state())
    for each in (stepper, again):
        each.begin(rate=1e-3, frozen=False)
        for seed in range(2, 4):
            each.step(make_batch(seed=seed), last=True)
    assert_same(again.state(), stepper.state())


def test_the_average_takes_part_in_each_step() -> None:
    """After n steps it keeps (1 + n) / (10 + n) of itself, up to the recipe's share."""
    stepper = stepper_of(recipe_of(ema_decay=0.2))
    stepper.begin(rate=1e-3, frozen=False)
    weight = stepper.objective.network.classifier.weight
    mean = weight.detach().clone()
    for kept in (2 / 11, 0.2, 0.2):
        stepper.step(make_batch(), last=True)
        mean = kept * mean + (1 - kept) * weight.detach()
    own = weight.detach().clone()
    with stepper.averaged():
        torch.testing.assert_close(weight.detach(), mean)
        assert not torch.equal(weight, own)
    assert torch.equal(weight, own)


def test_without_an_average_the_network_is_its_own() -> None:
    stepper = stepper_of(recipe_of())
    before = tensors(stepper)
    with stepper.averaged():
        assert not changed(before, tensors(stepper))
    assert stepper.state()["average"] is None
