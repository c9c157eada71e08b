"""What is particular to GRPO: its rewards, and what is logged."""

from __future__ import annotations

from typing import Any

import pytest

from selfstudy.core.errors import UsageError
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.methods.reasoning.grpo import Grpo
from selfstudy.models.language.tiny import random_tiny_model

SMALL: dict[str, Any] = {"steps": 2, "problems": 3, "group": 4, "temperature": 2.0}


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


def test_a_value_model_may_reward(policy, chains, open_run) -> None:
    """Oracle: the mean in the log under its name; what it reads is charged, and expected."""
    run, task, grpo = open_run(), chains(), Grpo(**SMALL, value_reward=0.5)
    expected = grpo.cost(task, policy)
    grpo.fit(task.metered(run.meter), policy, run)
    for line in run.metrics():
        assert 0 < line["reward_value"] < 1
        assert line["reward"] == pytest.approx(line["reward_verifier"] + 0.5 * line["reward_value"])
    spent = run.meter.snapshot()
    assert spent["scored_tokens"] == pytest.approx(expected["scored_tokens"], rel=0.1)
    assert spent["flops"] <= expected["flops"]


def test_a_value_model_that_is_not_there(policy, chains, open_run, tmp_path) -> None:
    """Oracle: a folder without one, before anything is drawn; a model that none comes with."""
    run = open_run()
    for model, source in ((policy, str(tmp_path)), (random_tiny_model(1, 16), "")):
        with pytest.raises(UsageError, match="value model"):
            Grpo(**SMALL, value_reward=1.0, value_model=source).fit(chains(), model, run)
    assert run.meter.snapshot()["generated_tokens"] == 0


@pytest.mark.parametrize(
    "fields", [{"group": 1}, {"steps": 0}, {"temperature": 0.0}, {"gradient": PolicyGradient(kl=-1.0)}]
)
def test_refusals(fields: dict[str, Any]) -> None:
    """Oracle: the field is named."""
    with pytest.raises(UsageError, match="kl" if "gradient" in fields else next(iter(fields))):
        Grpo(**fields).validate()
