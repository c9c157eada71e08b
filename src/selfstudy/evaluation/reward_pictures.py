"""The course of a training by reward, as its log tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfstudy.evaluation.pictures import Picture, line, picture

NOTE = "Where all answers to a problem get the same reward, nothing can be learnt from it."


def reward_pictures(
    logged: Sequence[Mapping[str, Any]],
    title: str = "Rewards",
    *,
    reward: str = "mean reward",
    constant: str = "problems whose answers all got the same",
    note: str = NOTE,
) -> list[Picture]:
    """Return the rewards and the entropy over the steps; none where nothing was logged.

    Args:
        logged: lines of the steps, with `step`, `reward` and `constant`, and `entropy` where there was
            something to learn.
        title: of the first picture.
        reward: what the reward is.
        constant: what the share of groups with equal rewards is.
        note: below the first picture.
    """
    if not logged:
        return []
    steps = [row["step"] for row in logged]
    curves = {reward: "reward", constant: "constant"}
    course = picture(
        title,
        [line(name, steps, [row[key] for row in logged]) for name, key in curves.items()],
        x="step",
        y="share",
        note=note,
    )
    learnt = [row for row in logged if "entropy" in row]
    entropy = picture(
        "Entropy",
        [line("entropy", [row["step"] for row in learnt], [row["entropy"] for row in learnt])],
        x="step",
        y="nats per token",
    )
    return [course, entropy]
