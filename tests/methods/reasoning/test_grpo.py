"""What is particular to GRPO: which problems and groups a step learns from, and what is logged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from selfstudy.core.errors import UsageError
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.learning.reward_groups import learnable
from selfstudy.methods.reasoning.grpo import Grpo
from selfstudy.search.rollouts import Answer, Group

SMALL: dict[str, Any] = {"steps": 2, "problems": 3, "group": 4, "temperature": 2.0}


def groups(count: int, size: int) -> list[Group]:
    return [
        Group(None, (i,), tuple(Answer(None, "", (), (7,) * (j + 1), "length") for j in range(size)))  # type: ignore[arg-type]
        for i in range(count)
    ]


@pytest.mark.parametrize("leave_out", [True, False])
def test_constant_groups(leave_out: bool) -> None:
    """Oracle: by hand: the constant group is left out on demand, has no advantage, and counts in the log."""
    rewards = np.array([[1.0, 0.0], [1.0, 1.0]])
    found = learnable(groups(2, 2), rewards, "grpo", leave_out=leave_out, figures={"x": 3.0})
    advantages = [rollout.advantage for rollout in found.rollouts]
    assert advantages == pytest.approx([0.7071, -0.7071] + ([] if leave_out else [0, 0]), abs=1e-3)
    assert [rollout.prompt for rollout in found.rollouts] == [(0,), (0,)] + ([] if leave_out else [(1,)] * 2)
    assert found.figures == {"x": 3.0, "constant": 0.5, "length": 1.5}


def test_only_constant_groups_teach_nothing() -> None:
    """Oracle: no rollouts at all, also where groups are not left out."""
    assert not learnable(groups(1, 2), np.ones((1, 2)), "grpo", leave_out=False, figures={}).rollouts


def test_a_fit(policy, chains, open_run) -> None:
    """Oracle: steps times problems times group verifier calls; every reward in the log under its name."""
    run, task = open_run(), chains()
    fitted = Grpo(**SMALL, format_reward=0.5, length_reward=0.1)
    fitted.fit(task.metered(run.meter), policy, run)
    assert run.meter.snapshot()["verifier_calls"] == 2 * 3 * 4
    lines = [line for line in run.metrics() if line.get("part") == "policy"]
    assert [line["step"] for line in lines] == [0, 1]
    for line in lines:
        parts = line["reward_verifier"] + 0.5 * line["reward_format"] + 0.1 * line["reward_length"]
        assert line["reward"] == pytest.approx(parts)


@pytest.mark.parametrize(
    "fields", [{"group": 1}, {"steps": 0}, {"temperature": 0.0}, {"gradient": PolicyGradient(kl=-1.0)}]
)
def test_refusals(fields: dict[str, Any]) -> None:
    """Oracle: the field is named."""
    with pytest.raises(UsageError, match="kl" if "gradient" in fields else next(iter(fields))):
        Grpo(**fields).validate()
