"""Rewards that a model gives its own answers: how likely it finds them, or how often it says the same.

All are of answers drawn at temperature 1 with their log-probabilities under the model that drew them. They
must stay those of that model while another learns from them: a model that is scored by itself drifts to
whatever it says already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, MachineError
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import sequence_logprobs

if TYPE_CHECKING:
    from selfstudy.search.rollouts import Answer, Group
    from selfstudy.tasks.reasoning import Problem, ReasoningTask

SelfReward = Literal["likelihood", "normalised", "majority"]
# Nats a token between a sampler's log-probabilities and the model's own.
ROUNDING = 1e-3  # in float32; truly it is a hundredth of that
COARSE = 0.02  # where either computes in less: bfloat16 has 0.01
SHARP = 0.95  # share of prompts with one and the same answer from which there is nothing to learn
UNANSWERED = 0.3  # share of answers without a stated one that a vote bears


def own_rewards(task: ReasoningTask, group: Group, kind: SelfReward) -> np.ndarray:
    """Return the rewards [G] of a group's answers.

    likelihood: log p(y | x), the sum over all tokens drawn, the end token included.
    normalised: the same, divided by the number of tokens.
    majority: the share of the group's answers that state an equivalent answer; 0 for stating none.
    """
    return SELF_REWARDS[kind](task, group)


def _likelihoods(task: ReasoningTask, group: Group) -> np.ndarray:
    return np.array([sum(answer.logprobs) for answer in group.answers])


def _normalised(task: ReasoningTask, group: Group) -> np.ndarray:
    return _likelihoods(task, group) / [max(1, len(answer.tokens)) for answer in group.answers]


def _shares(task: ReasoningTask, group: Group) -> np.ndarray:
    stated = [task.answer(answer.steps, group.problem) for answer in group.answers]
    return vote_shares(task, group.problem, stated, stated)


SELF_REWARDS: dict[SelfReward, Callable[[ReasoningTask, Group], np.ndarray]] = {
    "likelihood": _likelihoods,
    "normalised": _normalised,
    "majority": _shares,
}


def vote_shares(
    task: ReasoningTask, problem: Problem, stated: Sequence[str | None], votes: Sequence[str | None]
) -> np.ndarray:
    """Return for each of the answers `stated` the share of `votes` that are equivalent to it, [G].

    None states no answer: it has share 0, and a vote for none.
    """

    def share(text: str | None) -> float:
        same = [vote is not None and task.equivalent(problem, vote, text or "") for vote in votes]
        return 0.0 if text is None else sum(same) / len(votes)

    return np.array([share(text) for text in stated])


def cut(task: ReasoningTask, answer: Answer, end: int | None) -> bool:
    """Tell whether an answer was cut off by the limit of tokens.

    Its log-probability lacks what would have followed, and so is too high.

    Args:
        task: says what a finished solution is, and which strings end one.
        answer: drawn.
        end: the model's end token. Where there is none, and no string that ends a solution, all answers go
            to the limit; then one that is a finished solution by its form is whole.
    """
    if answer.finish in ("stop", "end"):
        return False
    endless = end is None and not task.stop
    return not (endless and task.is_end(answer.problem, answer.steps))


def require_own_logprobs(model: LanguageModel, drawn: Sequence[tuple[str, Answer]], meter: Meter) -> None:
    """Compare the log-probabilities that came with drawn answers with the model's own.

    An engine that applies a temperature or cuts the distribution off (top-p, top-k) before it states them
    gives another number; then neither rewards nor coverage mean anything.

    Args:
        model: drew the answers.
        drawn: some, each after the text that it was drawn after.
        meter: charged what is read.

    Raises:
        MachineError: they differ by more than rounding explains.
    """
    own = sequence_logprobs(model, [(prompt, answer.tokens) for prompt, answer in drawn], meter)
    stated = np.array([sum(answer.logprobs) for _, answer in drawn])
    lengths = np.array([max(1, len(answer.tokens)) for _, answer in drawn])
    off = np.abs(stated - own).sum() / lengths.sum()
    fine = model.module.dtype == torch.float32 and model.engine.backend == "torch"
    tolerance = ROUNDING if fine else COARSE
    if not off <= tolerance:
        raise MachineError(
            f"The log-probabilities that came with {len(drawn)} answers of {model.name!r} differ from the "
            f"model's own by {off:.3g} nats a token; rounding explains {tolerance:g}. The engine states them "
            "after a temperature or a cut of the distribution (top-p, top-k), or its weights are others. Let "
            "it state raw ones (vLLM: logprobs_mode=raw_logprobs), without top-p and top-k."
        )


def require_signal(drawn: Sequence[dict[str, Any]], reward: SelfReward, samples: int) -> None:
    """Raise `DataError` where the answers to the prompts leave nothing to choose.

    Args:
        drawn: of each prompt the numbers of its "samples", of those "cut" off, "unanswered" and "distinct",
            and the "rewards" of those that may be chosen.
        reward: what the choice is made by.
        samples: asked for; with one nothing is chosen anyway.
    """
    usable = [x for x in drawn if x["distinct"]]
    answers, cuts = (sum(x[name] for x in drawn) for name in ("samples", "cut"))
    if not usable:
        raise DataError(
            f"None of {answers} answers to {len(drawn)} problems can be learnt from: {cuts} were cut off by "
            "the limit of tokens, the others are empty. Allow longer solutions (solution_tokens), or take a "
            "model that finishes its answers."
        )
    sharp = sum(x["distinct"] == 1 for x in usable) / len(usable)
    if samples > 1 and sharp > SHARP:
        raise DataError(
            f"There is nothing to sharpen: at {sharp:.0%} of {len(usable)} problems all answers are one and "
            "the same. The model already says what it thinks best; take harder problems or another model."
        )
    unanswered = sum(x["unanswered"] for x in drawn) / sum(len(x["rewards"]) for x in drawn)
    if reward == "majority" and unanswered > UNANSWERED:
        raise DataError(
            f"The reward 'majority' needs answers to vote on: none can be read from {unanswered:.0%} of the "
            f"samples, more than {UNANSWERED:.0%}. Tell the task how answers are marked, or take the reward "
            "'likelihood', which reads none."
        )
