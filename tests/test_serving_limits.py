"""Token buckets and budgets, with a clock of our own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.errors import ArgumentError
from reidkit.serving._limits import Buckets, Budget, Limits
from reidkit.serving._load import Overloaded


def test_a_burst_and_then_the_rate() -> None:
    now = [100.0]
    buckets = Buckets(2, 3, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == 0.5
    assert buckets.take("b") == 0, "another name has its own"
    now[0] += 0.5
    assert buckets.take("a") == 0
    assert buckets.take("a") == 0.5
    now[0] += 1000
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_small_costs_and_no_limit() -> None:
    buckets = Buckets(1, 1, clock=lambda: 0.0)
    assert [buckets.take("a", 0.25) for _ in range(4)] == [0, 0, 0, 0]
    assert buckets.take("a", 0.25) == 0.25
    free = Buckets(0, 1)
    assert {free.take("a") for _ in range(1000)} == {0}


def test_names_are_forgotten() -> None:
    buckets = Buckets(1, 1, most=10, clock=lambda: 0.0)
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets) == 10
    assert buckets.take("999") == 1, "the latest are kept"


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 10), st.integers(1, 5))
def test_never_more_than_the_rate(pauses: list[float], rate: float, burst: int) -> None:
    now = [0.0]
    buckets = Buckets(rate, burst, clock=lambda: now[0])
    passed = 0
    for pause in pauses:
        now[0] += pause
        wait = buckets.take("a")
        passed += wait == 0
        assert 0 <= wait <= 1 / rate + 1e-9
    assert passed <= burst + math.floor(now[0] * rate + 1e-6)


def test_a_budget_is_given_back() -> None:
    budget = Budget(10, "bodies")
    with budget.hold(6):
        with pytest.raises(Overloaded, match="uploads"):
            budget.take(5)
        budget.take(4)
    budget.give_back(4)
    assert budget.taken == 0
    with pytest.raises(ValueError), budget.hold(1):
        raise ValueError
    assert budget.taken == 0


@pytest.mark.parametrize(
    "wrong",
    [{"pictures": 0}, {"rate": -1}, {"body_seconds": math.nan}, {"body_bytes": 2**40}],
)
def test_limits_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
