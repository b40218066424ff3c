"""Which pictures make up the batches: checked rule by rule against plain loops."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from reidkit.errors import ArgumentError
from reidkit.training._recipe import Recipe
from reidkit.training._sampling import plan_epoch

COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 20, 4, 4, 31)
"""How many pictures each person has: fewer than a group, just one, and many."""


def labels(counts: tuple[int, ...] = COUNTS, seed: int = 0) -> NDArray[np.int64]:
    """Give the labels of people with so many pictures, mixed as on disk or worse."""
    column = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.random.default_rng(seed).permutation(column)


def recipe(batch: int = 16, instances: int = 4, seed: int = 0) -> Recipe:
    return Recipe(batch=batch, instances=instances, seed=seed, metric_loss="none")


def shuffling(batch: int = 16) -> Recipe:
    return Recipe(batch=batch, sampler="shuffle", metric_loss="none")


def groups_of(whom: NDArray[np.int64], plan: NDArray[np.intp], instances: int) -> list[list[int]]:
    """Give the people of each batch, and check that each one's pictures are side by side."""
    people = []
    for batch in plan.tolist():
        shown = [int(whom[row]) for row in batch]
        for place in range(0, len(batch), instances):
            assert len(set(shown[place : place + instances])) == 1
        people.append(shown[::instances])
    return people


@pytest.mark.parametrize(
    ("batch", "instances"), [(16, 4), (8, 2), (12, 4), (15, 3), (6, 1), (8, 8)]
)
@pytest.mark.parametrize("epoch", [1, 2, 60])
def test_batches_follow_the_rule(batch: int, instances: int, epoch: int) -> None:
    whom = labels()
    plan = plan_epoch(whom, recipe(batch, instances), epoch=epoch)
    left = {person: max(count // instances, 1) for person, count in enumerate(COUNTS)}
    for people in groups_of(whom, plan, instances):
        assert len(set(people)) == len(people) == batch // instances
        for person in people:
            left[person] -= 1
    assert min(left.values()) >= 0
    waiting = [person for person, groups in left.items() if groups]
    assert len(waiting) < batch // instances, "the epoch ended too early"


def test_pictures_come_once_where_there_are_enough() -> None:
    whom = labels()
    plan = plan_epoch(whom, recipe(), epoch=1)
    seen = Counter(plan.ravel().tolist())
    for row, times in seen.items():
        few = COUNTS[whom[row]] < 4
        assert times <= (4 if few else 1)


def test_few_pictures_are_drawn_with_replacement() -> None:
    """One picture fills its group alone; of three, each is drawn a third of the time."""
    whom = np.array([0] + [1] * 3 + [2] * 4, np.int64)
    seen: Counter[int] = Counter()
    for epoch in range(1, 401):
        (batch,) = plan_epoch(whom, recipe(12), epoch=epoch).tolist()
        seen.update(batch)
        assert len({row for row in batch if whom[row] == 2}) == 4
    assert seen[0] == 1600
    shares = np.array([seen[row] for row in (1, 2, 3)]) / 1600
    np.testing.assert_allclose(shares, 1 / 3, atol=0.05)  # four standard deviations


def test_over_some_epochs_every_picture_is_used_about_equally_often() -> None:
    whom = labels((6, 6, 6, 6))
    seen: Counter[int] = Counter()
    for epoch in range(1, 601):
        plan = plan_epoch(whom, recipe(16), epoch=epoch)
        assert plan.shape == (1, 16)
        seen.update(plan.ravel().tolist())
    assert sorted(seen) == list(range(24))
    times = np.array(list(seen.values()))
    np.testing.assert_allclose(times / 600, 4 / 6, atol=0.1)


def test_people_and_their_pictures_are_mixed() -> None:
    whom = labels((4,) * 40)
    first, second = (plan_epoch(whom, recipe(16), epoch=epoch) for epoch in (1, 2))
    assert first.shape == second.shape == (10, 16)
    assert not np.array_equal(first, second)
    together = [set(people) for people in groups_of(whom, first, 4)]
    assert not any(set(people) in together for people in groups_of(whom, second, 4))


def test_a_plan_depends_on_labels_seed_and_epoch_alone() -> None:
    whom = labels()
    plan = plan_epoch(whom, recipe(), epoch=3)
    np.random.default_rng(0).random(100)
    assert np.array_equal(plan, plan_epoch(whom.copy(), recipe(), epoch=3))
    assert not np.array_equal(plan, plan_epoch(whom, recipe(seed=1), epoch=3)[: len(plan)])
    other = Recipe(batch=16, height=64, width=32, erasing_probability=0, epochs=5)
    assert np.array_equal(plan, plan_epoch(whom, other, epoch=3))
    assert plan.dtype == np.intp
    assert plan.flags.c_contiguous


def test_labels_need_not_be_counted_from_zero() -> None:
    whom = labels()
    plan = plan_epoch(whom, recipe(), epoch=1)
    assert np.array_equal(plan, plan_epoch(whom * 10 - 7, recipe(), epoch=1))


def test_a_plan_is_the_same_in_another_process() -> None:
    code = (
        "import numpy as np\n"
        "from reidkit.training._recipe import Recipe\n"
        "from reidkit.training._sampling import plan_epoch\n"
        "labels = np.repeat(np.arange(9), 5)\n"
        "print(plan_epoch(labels, Recipe(batch=16, seed=5), epoch=2).tolist())\n"
        "import sys\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    here = plan_epoch(np.repeat(np.arange(9), 5), recipe(16, seed=5), epoch=2)
    assert done == [str(here.tolist()), "False"]


@pytest.mark.parametrize("made", [recipe(16), shuffling()], ids=["identities", "shuffle"])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_shares_of_all_processes_are_the_whole(made: Recipe, ranks: int) -> None:
    whom = labels()
    whole = plan_epoch(whom, made, epoch=2)
    shares = [plan_epoch(whom, made, epoch=2, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert np.array_equal(np.concatenate(shares, axis=1), whole)
    if made.sampler == "identities":
        for share in shares:
            groups_of(whom, share, 4)


def test_shuffling_uses_every_picture_once() -> None:
    plan = plan_epoch(labels(), shuffling(), epoch=1)
    total = sum(COUNTS)
    assert plan.shape == (total // 16, 16)
    assert len(set(plan.ravel().tolist())) == plan.size
    assert not np.array_equal(plan, np.sort(plan.ravel()).reshape(plan.shape))
    left_out = set(range(total)) - set(plan.ravel().tolist())
    assert left_out != set(range(total)) - set(
        plan_epoch(labels(), shuffling(), epoch=2).ravel().tolist()
    )


def test_too_little_for_one_batch_is_refused() -> None:
    with pytest.raises(ArgumentError, match="holds 4 people with 4 pictures each, but there are 3"):
        plan_epoch(labels((9, 9, 9)), recipe(16), epoch=1)
    with pytest.raises(ArgumentError, match="there are 0 people"):
        plan_epoch(np.empty(0, np.int64), recipe(16), epoch=1)
    with pytest.raises(ArgumentError, match="a batch of 16 is larger than the 15 pictures"):
        plan_epoch(labels((5, 5, 5)), shuffling(), epoch=1)


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"16 .* 3 processes in whole groups of 4 .* of 12$"):
        plan_epoch(labels(), recipe(16), epoch=1, ranks=3)
    with pytest.raises(ArgumentError, match="among 8 processes in whole groups"):
        plan_epoch(labels(), recipe(16), epoch=1, ranks=8)
    with pytest.raises(ArgumentError, match="among 3 processes in whole pictures"):
        plan_epoch(labels(), shuffling(), epoch=1, ranks=3)
    with pytest.raises(ArgumentError, match="rank is 2 of 2, expected 0 to 1"):
        plan_epoch(labels(), recipe(16), epoch=1, rank=2, ranks=2)
