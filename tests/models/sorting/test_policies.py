from __future__ import annotations

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.models.sorting.one_array import SelfSortingArray
from selfstudy.models.sorting.policies import IDLE_ROUNDS, View


def test_a_policy_of_ones_own() -> None:
    """Oracle: by hand: a cell that looks left alone sorts as Bubble does, by as many swaps as inversions."""

    def leftward(view: View) -> int | None:
        left = view.place - 1
        return left if left >= 0 and view.values[left] > view.values[view.place] else None

    trace = SelfSortingArray([4, 3, 2, 1], leftward).run()
    assert trace.final.tolist() == [1, 2, 3, 4] and trace.counts.swaps == 6
    mixed = SelfSortingArray([4, 3, 2, 1], [leftward, "selection", leftward, "bubble"], seed=1).run()
    assert mixed.outcome == "sorted" and mixed.types.tolist() == [0, 1, 0, 2]


def test_idle_rounds_end_a_run_and_memory_counts_as_change() -> None:
    """Oracle: the number of idle rounds; a cell that counts to three puts the end off."""
    still = SelfSortingArray([2, 1], lambda view: None).run()
    assert still.counts.activations == 2 * IDLE_ROUNDS and still.outcome == "stuck"

    def counting(view: View) -> None:
        view.memory["n"] = min(view.memory.get("n", 0) + 1, 3)

    assert SelfSortingArray([2, 1], counting).run().counts.activations > 2 * IDLE_ROUNDS


@pytest.mark.parametrize("answer", [0, 2, -1, 0.5, "left"])
def test_impossible_wishes_are_refused(answer) -> None:
    """Oracle: positions are 0 and 1, and nobody swaps with itself."""
    with pytest.raises(UsageError, match="policy of the cell at position 0"):
        SelfSortingArray([2, 1], [lambda view: answer, "bubble"], frozen=[1]).run()


def test_coins_are_fair() -> None:
    """Oracle: the mean of 2,000 uniform numbers is 0.5 within four standard errors (false alarms 6e-5)."""
    seen = []

    def watching(view: View) -> None:
        seen.append(view.coin)
        view.memory["n"] = len(seen)

    SelfSortingArray([1, 2], watching).run(2000)
    assert abs(sum(seen) / 2000 - 0.5) < 4 * (1 / 12 / 2000) ** 0.5
