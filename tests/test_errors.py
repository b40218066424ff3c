"""Errors travel between processes as what they are."""

from __future__ import annotations

import pickle

import pytest

from reidkit import errors
from reidkit.errors import (
    AscendError,
    ImageError,
    MissingExtraError,
    ReidkitError,
    UnreadableImage,
    UnreadableImagesError,
)

MADE = [
    ImageError("a.jpg", "torn"),
    UnreadableImagesError([UnreadableImage("a.jpg", "torn")], 3, ", or leave it out"),
    AscendError("no such soc", "E10001"),
    MissingExtraError("torch", "torch"),
]


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_with_facts_keeps_them(error: ReidkitError) -> None:
    there = pickle.loads(pickle.dumps(error))
    assert type(there) is type(error)
    assert str(there) == str(error)
    assert vars(there) == vars(error)


def test_every_other_error_takes_its_message_alone() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ReidkitError)
    ]
    assert len(kinds) > 20
    for kind in set(kinds) - {type(error) for error in MADE}:
        there = pickle.loads(pickle.dumps(kind("what happened")))
        assert (type(there), str(there)) == (kind, "what happened")
