"""The buffer of groups that wait."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.checkpoint import load_state, save_state
from selfstudy.learning.policy_gradient import Rollout
from selfstudy.learning.rollout_buffer import RolloutBuffer

GROUPS = [
    [Rollout((1, 2), (3,), 0.1, (-0.25,), elsewhere=True), Rollout((1, 2), (), -0.1)],
    [Rollout((7,), (8, 9), 1 / 3, (-1.5, -1e-7), elsewhere=False)],
    [Rollout((5,), (6,), 0.0)],
]


def test_read_back_from_a_checkpoint(tmp_path: Path) -> None:
    """Oracle: the groups themselves, to the last digit."""
    buffer, again = RolloutBuffer(), RolloutBuffer()
    buffer.keep(GROUPS)
    buffer.draws = 5
    save_state(tmp_path / "state", {"buffer": buffer}, {})
    load_state(tmp_path / "state", {"buffer": again})
    assert again.groups == GROUPS
    assert again.draws == 5
    assert again.take(9) == GROUPS


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=20))
def test_first_in_first_out(actions: list[tuple[bool, int]]) -> None:
    """Oracle: a plain list."""
    buffer, waiting, number = RolloutBuffer(), [], 0
    for adds, count in actions:
        if adds:
            groups = [[Rollout((number + i,), (0,), 0.0)] for i in range(count)]
            number += count
            buffer.keep(groups)
            waiting += groups
        else:
            assert buffer.take(count) == waiting[:count]
            del waiting[:count]
    assert buffer.groups == waiting
