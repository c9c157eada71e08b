from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core import budget
from selfstudy.core.budget import ALIASES, UNITS, Budget, Meter, describe, limits
from selfstudy.core.errors import BudgetSpent, UsageError


class Clock:
    """Stands in for the time module."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(budget, "time", clock)
    return clock


def test_parse_reads_units_aliases_and_blanks():
    """Oracle: the same limits written by hand."""
    read = Budget.parse(" tokens = 2e6, scored-tokens=5 ,labels=10,checks=7,seconds=1.5,")
    assert read == Budget(
        generated_tokens=2e6, scored_tokens=5, oracle_labels=10, verifier_calls=7, seconds=1.5
    )
    assert Budget.parse("") == Budget()
    assert limits(read)["generated_tokens"] == 2e6
    assert "flops" not in limits(read)


@given(st.dictionaries(st.sampled_from(UNITS), st.floats(1e-3, 1e18), min_size=1))
def test_parse_inverts_writing(amounts):
    """Oracle: writing limits as text and parsing them gives them back."""
    assert limits(Budget.parse(",".join(f"{unit}={amount!r}" for unit, amount in amounts.items()))) == amounts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tokns=5", "Did you mean 'tokens'"),
        ("tokens", "number after the equals sign"),
        ("tokens=many", "tokens=many"),
        ("tokens=0", "above zero"),
        ("tokens=-1", "above zero"),
        ("tokens=nan", "above zero"),
        ("tokens=1,generated_tokens=2", "twice"),
        ("=5", "Unknown budget unit"),
    ],
)
def test_parse_refuses(text, said):
    """Oracle: the message holds what to do about it."""
    with pytest.raises(UsageError, match=said):
        Budget.parse(text)


def test_aliases_name_units():
    """Oracle: the fields of Budget."""
    assert set(ALIASES.values()) <= set(UNITS)


def test_charge_refuses_before_it_counts():
    """Oracle: the counts before and after the refused charge are the same, in every unit."""
    meter = Meter(Budget(generated_tokens=10, flops=100))
    meter.charge(generated_tokens=4, flops=60)
    before = meter.snapshot()
    with pytest.raises(BudgetSpent, match="100 flops"):
        meter.charge(generated_tokens=1, samples=1, flops=41)
    assert {**meter.snapshot(), "seconds": 0} == {**before, "seconds": 0}
    meter.charge(generated_tokens=6, flops=40)  # up to the limits exactly
    assert meter.snapshot()["generated_tokens"] == 10


def test_an_unknown_unit_counts_nothing():
    """Oracle: the counts are those before the mistake."""
    meter = Meter()
    with pytest.raises(KeyError):
        meter.charge(samples=1, token=1)
    assert meter.snapshot()["samples"] == 0


def test_affords_agrees_with_charge():
    """Oracle: by hand, at the limit and one past it; without amounts it asks whether anything is used up."""
    meter = Meter(Budget(samples=3))
    assert meter.affords(samples=3)
    assert not meter.affords(samples=4)
    assert meter.affords(flops=1e30)
    assert meter.affords()
    meter.charge(samples=3)
    assert not meter.affords()
    assert not meter.affords(samples=1)
    assert meter.affords(flops=1)
    with pytest.raises(BudgetSpent):
        meter.charge()


@given(st.lists(st.tuples(st.sampled_from(["samples", "flops"]), st.integers(0, 20)), max_size=30))
def test_counts_never_pass_the_limits(charges):
    """Oracle: a sum in the test of the charges that were accepted."""
    meter, accepted = Meter(Budget(samples=50, flops=30)), {"samples": 0, "flops": 0}
    for unit, amount in charges:
        fits = meter.affords(**{unit: amount})
        try:
            meter.charge(**{unit: amount})
        except BudgetSpent:
            assert not fits
        else:
            assert fits
            accepted[unit] += amount
    spent = meter.snapshot()
    assert {unit: spent[unit] for unit in accepted} == accepted
    assert accepted["samples"] <= 50
    assert accepted["flops"] <= 30


def test_seconds_are_charged_by_the_clock(clock):
    """Oracle: a clock that the test sets."""
    meter = Meter(Budget(seconds=5))
    clock.now += 5
    meter.charge(samples=1)
    clock.now += 0.5
    with pytest.raises(BudgetSpent, match="5 seconds"):
        meter.charge(samples=1)
    assert meter.snapshot()["seconds"] == 5.5


def test_snapshot_and_restore(clock):
    """Oracle: counts go back to the snapshot through JSON; seconds go on."""
    meter = Meter()
    meter.charge(samples=2, flops=0.1)
    clock.now += 3
    saved = json.loads(json.dumps(meter.snapshot()))
    meter.charge(samples=5, verifier_calls=1)
    clock.now += 4
    meter.restore(saved)
    assert meter.snapshot() == {**saved, "seconds": 7}
    clock.now += 1
    assert meter.snapshot()["seconds"] == 8


def test_a_new_session_adds_its_seconds_to_the_earlier_ones(clock):
    """Oracle: 30 seconds saved by another process and 2 of this one."""
    meter = Meter()
    meter.restore({"samples": 4, "seconds": 30})
    clock.now += 2
    assert meter.snapshot()["seconds"] == 32
    assert meter.snapshot()["samples"] == 4
    assert meter.snapshot()["flops"] == 0
    meter.restore({"seconds": 1})
    assert meter.snapshot()["seconds"] == 32
    assert meter.snapshot()["samples"] == 0


def test_a_snapshot_is_a_copy():
    """Oracle: changing it does not change the meter."""
    meter = Meter()
    meter.snapshot()["samples"] = 99
    assert meter.snapshot()["samples"] == 0


def test_describe():
    """Oracle: lines written by hand."""
    assert describe({}) == "nothing"
    assert describe({"flops": 1.5e12, "oracle_labels": 2}) == "1.5e+12 flops, 2 oracle labels"
    assert describe({"prompt_tokens": 1200, "cost": 0.0512}) == "1,200 prompt tokens, 0.0512 cost"
