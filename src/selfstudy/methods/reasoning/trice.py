"""TRICE: the rationale as a latent variable, and stochastic ascent on the likelihood of the right answer.

Phan, Hoffman, Dohan et al. 2023, "Training Chain-of-Thought via Latent-Variable Inference", NeurIPS 2023,
arXiv 2312.02179. Each problem keeps its last right rationale, as the state of a Markov chain whose stationary
distribution is p(z | x, y); a control variate learns from wrong rationales too and takes the noise out of the
gradient as the model gets good. Pick it over `rest-em` or STaR when hard problems are solved too rarely to be
kept by a filter, and over `grpo` when the check is right or wrong and batches are small.

Deviations from the paper: the initial rationales come from the model itself unless `guide="answer"`, as a
small model cannot read a prompt with the answer in it; all weights are trained unless a soft prompt is asked
for; where no more than `terms` gradients have a weight they are all computed instead of resampled;
M, L, the optimiser's settings and the exact weighting within beta are ours, as the paper's were not at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from selfstudy.core.errors import BudgetSpent, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.rationales import Drawn, Rationales, RationaleStore
from selfstudy.evaluation.chain_pictures import chain_pictures
from selfstudy.learning.drought import BARREN, Drought, warn_of_rationales, warn_of_shown_answers
from selfstudy.learning.loops import batch_indices, check_positive
from selfstudy.learning.posterior_weights import Estimate, Normalise, posterior_weights, subsample
from selfstudy.learning.weighted_sequences import SequenceLearner, SequenceTuning, WeightedText
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.rationales import draw_rationales
from selfstudy.search.reasoning import posed, prompt_tokens, require_room
from selfstudy.tasks.reasoning import Problem, ReasoningTask


@dataclass(frozen=True, kw_only=True)
class Trice(Method):
    """Markov chains over rationales, and gradients of log p(right answer) (Phan et al. 2023)."""

    works_on = (ReasoningTask, LanguageModel)

    steps: int = 300
    """Gradient steps."""
    problems: int = 128
    """Problems of a step, each with one fresh rationale (M)."""
    terms: int = 128
    """Rationales whose gradients are computed in a step, of at most 2 M (L)."""
    estimate: Estimate = "control-variate"
    """Of the gradient: with the control variate, or without."""
    normalise: Normalise = "C"
    """Divide by the problems whose chain holds a right rationale (C), or by all (M)."""
    guide: Literal["base", "answer"] = "base"
    """Where each chain starts: a draw from the model, or from the model with the answer in the prompt (one
    oracle label a problem)."""
    batch: int = 256
    """Problems whose first rationales are drawn at once."""
    refresh: int = 1
    """Steps whose fresh rationales are drawn at once, from the model as it stands before them."""
    tuning: SequenceTuning = field(default_factory=SequenceTuning)
    """The gradient steps."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, problems=0, terms=0, batch=0, refresh=0)
        self.tuning.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit."""
        drawn = len(task.train) + self.steps * self._size(task)
        learnt = self.steps * min(self.terms, 2 * self._size(task))
        read = task.solution_tokens + prompt_tokens(task, model)
        return {
            "generated_tokens": drawn * task.solution_tokens,
            "verifier_calls": drawn,
            "oracle_labels": len(task.train) if self.guide == "answer" else 0,
            "samples": learnt,
            "flops": model.flops((drawn + 3 * learnt) * read),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` on the training problems of `task`, of which only answers are known."""
        require_room(model, task)
        self._require_sense(task)
        start = run.stage("guide", partial(self._first_rationales, task, model, run))
        trained = run.stage("policy", partial(self._ascend, task, model, start, run))
        rows = trained.memory.rows
        return Fit(
            model=trained.policy,
            parts={"memory": trained.memory},
            metrics={
                "problems": len(rows),
                "right_in_memory": sum(row.right for row in rows),
                "memory_hash": trained.memory.hash,
            },
            pictures=chain_pictures(run.metrics(), [row.age for row in rows if row.right]),
        )

    def _ascend(
        self, task: ReasoningTask, model: LanguageModel, start: Sequence[dict[str, Any]], run: Run
    ) -> Trained:
        """MCMC-EM: move the chains of a minibatch, follow the gradient, again."""
        memory, ahead = RationaleStore(len(task.train)), RationaleStore(self.refresh * self._size(task))
        for n, record in enumerate(start):
            memory.put(n, _drawn(record), -1)
        learner = SequenceLearner(model, self.tuning, run, "policy")
        require_room(learner.policy, task)
        posed_texts = [posed(model, task, problem) for problem in task.train]
        prompts = [tuple(row) for row in learner.policy.encode_all(posed_texts)]
        drought = Drought(min(BARREN, self.steps))
        state = {**learner.state, "memory": memory, "ahead": ahead, "drought": drought}
        for step in run.steps(self.steps, state=state, desc="policy"):
            chosen, lag = self._minibatch(task, run, step), step % self.refresh
            try:
                if lag == 0:
                    self._propose(task, learner.policy, ahead, run, step)
                proposals = [ahead[lag * len(chosen) + i] for i in range(len(chosen))]
                accepted = np.array(
                    [memory.offer(n, z, step) for n, z in zip(chosen, proposals, strict=True)]
                )
                held = memory.right[chosen]
                drought.look(held)
                texts, figures = self._weighted(
                    [(prompts[n], memory[n].tokens) for n in chosen],
                    [(prompts[n], z.tokens) for n, z in zip(chosen, proposals, strict=True)],
                    held,
                    accepted,
                    run.rng("terms", step).random(),
                )
                learner.charge(run.meter, texts)
            except BudgetSpent:
                break
            run.log(
                part="policy",
                step=step,
                lag=lag,
                generated_tokens=sum(len(z.tokens) for z in proposals),
                unanswered=float(np.mean([not z.answered for z in proposals])),
                right_in_memory=float(memory.right.mean()),
                **figures,
                **_quantiles(memory.ages(step)),
                **(learner.step(texts) if texts else {}),
            )
        questions = [problem.prompt for problem in task.train]
        return Trained(learner.finished(), Rationales.of(questions, memory, int(memory.since.max())))

    def _weighted(
        self,
        memory: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        proposals: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        held: np.ndarray,
        accepted: np.ndarray,
        uniform: float,
    ) -> tuple[list[WeightedText], dict[str, float]]:
        """Return the terms of the gradient's estimate, and figures for the log."""
        weights = posterior_weights(held, accepted, self.estimate, self.normalise)
        kept = subsample(np.concatenate([weights.memory, weights.proposal]), self.terms, uniform)
        texts = [
            WeightedText(*pair, weight)
            for pair, weight in zip([*memory, *proposals], kept.tolist(), strict=True)
            if weight and pair[1]
        ]
        basic = posterior_weights(held, accepted, "basic", self.normalise)
        squares = np.square(basic.memory).sum() + np.square(basic.proposal).sum()
        return texts, {
            "acceptance": float(accepted.mean()),
            "held": float(held.mean()),
            "beta": float(weights.beta[held].mean()) if held.any() else 0.0,
            "noise": float(np.square(kept).sum() / squares) if squares else 0.0,
            "terms": len(texts),
        }

    def _minibatch(self, task: ReasoningTask, run: Run, step: int) -> np.ndarray:
        return batch_indices(run, "problems", step, len(task.train), self._size(task))

    def _size(self, task: ReasoningTask) -> int:
        return min(self.problems, len(task.train))

    def _propose(
        self, task: ReasoningTask, policy: LanguageModel, ahead: RationaleStore, run: Run, step: int
    ) -> None:
        """Draw the fresh rationales of this step and the next `refresh` - 1 steps; z~ ~ p(.|x)."""
        steps = range(step, min(self.steps, step + self.refresh))
        asked = [(s, int(n)) for s in steps for n in self._minibatch(task, run, s)]
        drawn = draw_rationales(
            policy,
            task,
            [task.train[n] for _, n in asked],
            run.meter,
            keys=[run.key("proposal", s, i, task.train[n].id) for i, (s, n) in enumerate(asked)],
        )
        for place, one in enumerate(drawn):
            ahead.put(place, one, step)

    def _first_rationales(self, task: ReasoningTask, model: LanguageModel, run: Run) -> list[dict[str, Any]]:
        """Draw z_n from the guide for every problem, right or wrong; records in the order of the problems."""

        def draw(problems: Sequence[Problem]) -> list[dict[str, Any]]:
            drawn = draw_rationales(
                model,
                task,
                problems,
                run.meter,
                keys=[run.key("guide", problem.id) for problem in problems],
                shown=self.guide == "answer",
            )
            return [
                {
                    "tokens": len(one.tokens),
                    "ids": one.tokens,
                    "text": one.text,
                    "right": one.right,
                    "answered": one.answered,
                }
                for one in drawn
            ]

        records = run.map_batches("guide", task.train, self.batch, draw)
        if records:
            warn_of_rationales(records, task.name)
        return records

    def _require_sense(self, task: ReasoningTask) -> None:
        """Refuse a guide that the task does not have; warn where answers stand in the questions."""
        if self.guide == "answer" and task.form.guided is None:
            raise UsageError(
                f"--guide answer needs prompts that show the answer, and the task {task.name!r} has none. "
                "Take --guide base, or a task in words."
            )
        warn_of_shown_answers(task)


@dataclass(frozen=True)
class Trained:
    """What the ascent ends with."""

    policy: LanguageModel
    memory: Rationales

    def save(self, folder: Path) -> None:
        """Write both."""
        self.policy.save(Path(folder) / "policy")
        self.memory.save(Path(folder) / "memory")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read both."""
        return cls(LanguageModel.load(Path(folder) / "policy"), Rationales.load(Path(folder) / "memory"))


def _drawn(record: dict[str, Any]) -> Drawn:
    return Drawn(tuple(record["ids"]), record["text"], record["right"], record["answered"])


def _quantiles(ages: np.ndarray) -> dict[str, float]:
    if not len(ages):
        return {}
    middle, late, oldest = np.quantile(ages, (0.5, 0.9, 1.0)).tolist()
    return {"age_median": middle, "age_90": late, "age_oldest": oldest}
