"""Which pictures make up the batches of an epoch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import ArgumentError
from reidkit.training._recipe import Recipe


def plan_epoch(
    labels: NDArray[np.int64], recipe: Recipe, *, epoch: int, rank: int = 0, ranks: int = 1
) -> NDArray[np.intp]:
    """Choose the pictures of every batch of an epoch.

    With sampler "identities" a batch holds `batch // instances` people with `instances` pictures
    each, side by side. Each person's pictures are shuffled and dealt out in groups of `instances`;
    who has fewer pictures gives one group, drawn with replacement. Every batch takes the next
    group of people drawn at random among those who have one left, and the epoch ends when there
    are too few of them: the strong baseline's rule (Luo et al. 2019, after Hermans et al. 2017).
    With "shuffle" the pictures come in random order, without those of a last, incomplete batch.

    The plan depends on the labels, `recipe.seed` and `epoch` alone. Of several processes each
    takes its own share of every batch, always whole groups.

    Args:
        labels: (N,) int64, whom each picture shows.
        recipe: gives batch, sampler, instances and seed.
        epoch: from 1 on.
        rank: which of the processes this is, from 0 on.
        ranks: how many processes there are.

    Returns:
        (steps, batch // ranks) intp: rows of the pictures, a batch a row.

    Raises:
        ArgumentError: a batch cannot be split among the processes, or there are too few pictures
            or people for a single one.
    """
    chance = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(0, epoch)))
    size = recipe.instances if recipe.sampler == "identities" else 1
    share = _share(recipe.batch, size, rank, ranks)
    if recipe.sampler == "identities":
        plan = _plan_identities(labels, recipe.batch // size, size, chance)
    else:
        plan = _plan_shuffled(len(labels), recipe.batch, chance)
    return np.ascontiguousarray(plan[:, share])


class _Groups(NamedTuple):
    """The groups of pictures that C people give, a person's groups side by side."""

    rows: NDArray[np.intp]
    """(G, instances): the pictures of each group."""
    starts: NDArray[np.intp]
    """(C,): the first group of each person."""
    counts: NDArray[np.intp]
    """(C,): how many groups each person gives."""


def _plan_identities(
    labels: NDArray[np.int64], people: int, instances: int, chance: np.random.Generator
) -> NDArray[np.intp]:
    groups = _deal(labels, instances, chance)
    if len(groups.counts) < people:
        raise ArgumentError(
            f"a batch of {people * instances} holds {people} people with {instances} pictures "
            f"each, but there are {len(groups.counts)} people: set a smaller batch"
        )
    following, ends = groups.starts.copy(), groups.starts + groups.counts
    steps = []
    while len(waiting := np.flatnonzero(following < ends)) >= people:
        chosen = chance.choice(waiting, people, replace=False)
        steps.append(following[chosen])
        following[chosen] += 1
    plan: NDArray[np.intp] = groups.rows[np.concatenate(steps)]
    return plan.reshape(len(steps), people * instances)


def _deal(labels: NDArray[np.int64], instances: int, chance: np.random.Generator) -> _Groups:
    """Shuffle each person's pictures and deal them out in groups."""
    _, person, pictures = np.unique(labels, return_inverse=True, return_counts=True)
    shuffled = chance.permutation(len(labels))
    by_person = shuffled[np.argsort(person[shuffled], kind="stable")]
    counts = np.maximum(pictures // instances, 1)
    starts = np.cumsum(counts) - counts
    owner = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(owner)) - starts[owner]
    places = number[:, None] * instances + np.arange(instances)
    few = pictures[owner] < instances
    places[few] = chance.integers(0, pictures[owner[few]][:, None], (few.sum(), instances))
    first = (np.cumsum(pictures) - pictures)[owner]
    return _Groups(by_person[first[:, None] + places], starts, counts)


def _plan_shuffled(pictures: int, batch: int, chance: np.random.Generator) -> NDArray[np.intp]:
    if pictures < batch:
        raise ArgumentError(
            f"a batch of {batch} is larger than the {pictures} pictures there are: "
            "set a smaller batch"
        )
    steps = pictures // batch
    return chance.permutation(pictures)[: steps * batch].reshape(steps, batch)


def _share(batch: int, size: int, rank: int, ranks: int) -> slice:
    """Find the columns of a plan that belong to a process, in whole groups of `size`."""
    if not 0 <= rank < ranks:
        raise ArgumentError(f"rank is {rank} of {ranks}, expected 0 to {ranks - 1}")
    if batch % (size * ranks):
        groups = f"groups of {size} pictures" if size > 1 else "pictures"
        raise ArgumentError(
            f"a batch of {batch} cannot be split among {ranks} processes in whole {groups}: "
            f"set batch to a multiple of {size * ranks}"
        )
    width = batch // ranks
    return slice(rank * width, (rank + 1) * width)
