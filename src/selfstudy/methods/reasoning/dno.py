"""DNO: rounds of comparing the model's own answers with each other and with a reference, then preferring.

Rosset, Cheng, Mitra, Santacroce, Awadallah, Xie 2024, "Direct Nash Optimization: Teaching Language Models to
Self-Improve with General Preferences", arXiv 2404.03715. The preferences need not come from any score: a may
beat b, b beat c and c beat a. Pick it over DPO on a fixed set when the judge can be asked about fresh
samples, and over a reward model when preferences are not transitive; where answers can be checked, `grpo`
uses the truth directly. Other settings are its baselines: `rounds=1` is offline DPO, `reference="base"`
iterative DPO, `pairing="reference-over-students"` DNO-Restrictive, `pairing="reference-always"` SPIN (Chen
et al. 2024), `lookahead` DNO-Lookahead.

Deviations from the paper: margins are in win rates by default (`unit="scores"` takes the judge's own points).
The win rate for soft targets is over the samples alone, for margins over all outputs. The returned model is
the best of the rounds by wins over the base model on validation prompts, the last one where there are none.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.preference_rounds import round_figures, round_pictures
from selfstudy.evaluation.tournament import duel, length_controlled, outputs_of
from selfstudy.learning.judged_outputs import Record, histogram, judged, pairs_of
from selfstudy.learning.loops import check_not_negative, check_positive, training_cost
from selfstudy.learning.preference_pairs import Margins, repeats, replayed
from selfstudy.learning.preferences import Preference, prefer
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import check_top_p
from selfstudy.search.reasoning import posed, prompt_tokens, require_room
from selfstudy.search.rollouts import Group, draw_groups
from selfstudy.signals.judges import Contest, Judge, blind, comparisons, say_asymmetry
from selfstudy.signals.named_judges import calls_of, check_name, open_judge
from selfstudy.tasks.reasoning import Problem, ReasoningTask

WITHOUT_JUDGE = "reference-always"
PROBE = 32  # prompts on which the orders of a judge are compared


@dataclass(frozen=True, kw_only=True)
class Dno(Method):
    """Draw, compare, prefer the clear winners to the clear losers; repeat (Rosset et al. 2024)."""

    works_on = (ReasoningTask, LanguageModel)

    rounds: int = 3
    """Times the loop is run, each on prompts of its own (T)."""
    samples: int = 6
    """Outputs drawn for each prompt (K); 5 in the paper."""
    temperature: float = 1.0
    """Of the draws; 0.7 in the paper."""
    top_p: float = 1.0
    """Draw among the likeliest tokens alone that have this share together; 0.95 in the paper. Outputs on
    validation prompts are drawn from all tokens."""
    judge: str = "task"
    """Who compares: "task" (the verifier, or the task's own judge), "value" (a value model), "pairwise" (a
    language model is asked about every two outputs in both orders), "rubric" (it gives each 0 to 6 points),
    or module:function, called as function(prompt, outputs) for scores or a square of win probabilities."""
    judge_model: str = ""
    """Folder of the value model, or name of the language model that is asked; empty takes the value model
    that comes with the model, or the untrained model itself."""
    strict: bool = False
    """Refuse a judge whose two orders disagree by more than 0.05; else the mean of both is taken."""
    gold: bool = True
    """Let the reference answer, where the task has one, compete with the samples."""
    unit: Literal["wins", "scores"] = "wins"
    """What margins are measured in: the share of the other outputs that one beats, or the judge's scores."""
    least: float = 0.5
    """A pair's winner has at least so much; 5 of 6 points in the paper."""
    gap: float = 0.4
    """By so much the reference must lead as a winner; 2 points in the paper."""
    student_gap: float = 0.4
    """By so much a sample must lead as a winner; 1 point in the paper."""
    pairing: Literal["all", "reference-over-students", "reference-always"] = "all"
    """Which pairs are learnt from: all clear-cut ones, those that the reference wins, or the reference over
    every sample without asking the judge."""
    targets: Literal["hard", "soft"] = "hard"
    """Hold the policy to the winner, or to the difference of the win rates against its own samples."""
    reference: Literal["previous", "base"] = "previous"
    """What the policy is held to: that of the round before (pi_t), or the model that was given."""
    replay: float = 0.3
    """Most pairs of the round before, as a share of the new ones; of the one before that half so many, ..."""
    lookahead: bool = False
    """In the end train the given model on the pairs of all rounds together, and return that."""
    repeated: float = 0.5
    """An output with more than this share of repeated runs of three words loses to all others."""
    validation: int = 200
    """Validation prompts on which each round is compared with the given model; 0 returns the last round."""
    rate_factor: float = 1.0
    """The learning rate of a round over that of the round before."""
    batch: int = 64
    """Prompts sampled at once."""
    preference: Preference = field(
        default_factory=lambda: Preference(beta=0.1, learning_rate=5e-5, epochs=1, batch=64)
    )
    """The learning from pairs; its beta is the paper's eta, 0.1 or 0.05."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, rounds=0, samples=1, temperature=0, rate_factor=0, batch=0)
        check_not_negative(self, "gap", "student_gap", "replay", "repeated", "validation")
        if self.pairing == WITHOUT_JUDGE and self.targets == "soft":
            raise UsageError("Soft targets are win rates, which pairing reference-always does not ask for.")
        check_top_p(self.top_p)
        check_name(self.judge)
        self.preference.validate()

    def cost(self, task: ReasoningTask, model: LanguageModel) -> dict[str, float]:
        """Return about what a fit spends, by budget unit, without what a model as judge does.

        As if every two outputs made a pair.
        """
        prompts, compared = len(task.train), min(self.validation, len(task.validation))
        drawn = prompts * self.samples + compared * (self.rounds + 1)
        read = prompt_tokens(task, model) + task.solution_tokens
        outputs = self.samples + self.gold
        asked = 0 if self.pairing == WITHOUT_JUDGE else prompts * calls_of(self.judge, task, outputs)
        asked += 2 * compared * self.rounds * calls_of(self.judge, task, 2)
        pairs = prompts * comparisons(outputs)
        each = round(pairs / self.rounds * (1 + self.replay))
        learnt = [training_cost(self.preference, model, each, 2 * read)] * self.rounds
        if self.lookahead:
            learnt.append(training_cost(self.preference, model, pairs, 2 * read))
        return {
            "generated_tokens": drawn * task.solution_tokens,
            "verifier_calls": asked,
            "oracle_labels": prompts if self.gold else 0,
            "samples": sum(one["samples"] for one in learnt),
            "flops": model.flops(drawn * read) + sum(one["flops"] for one in learnt),
        }

    def fit(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Fit:
        """Train `model` to win against its own outputs, and against the references."""
        require_room(model, task)
        self._require_prompts(task)
        judge = self._open_judge(task, model, run)
        margins = Margins(self.least, self.gap, self.student_gap)
        parts = np.array_split(run.rng("parts").permutation(len(task.train)), self.rounds)
        policies, history, rounds = [model], [], []
        base: list[Record] = []  # outputs of the given model to validation prompts
        for t, part in enumerate(parts):
            prompts = [task.train[i] for i in part]
            work = partial(self._compare, task, policies[t], judge, prompts, run, t)
            records = run.stage(f"outputs-{t}", work)
            if t == 0:
                say_asymmetry([record["asymmetry"] for record in records[:PROBE]], strict=self.strict)
            pairs = [
                pair
                for record in records
                for pair in pairs_of(record, self.pairing, margins, soft=self.targets == "soft")
            ]
            if not pairs:
                if len(records) < len(prompts):
                    break  # the budget ended in the sampling
                raise DataError(self._no_pairs(records, t))
            history.append(pairs)
            policies.append(run.stage(f"policy-{t}", partial(self._learn, policies, history, run)))
            rounds.append(round_figures(records, [kind for _, kind in pairs]))
            if t == 0:
                base = run.stage("validation-base", partial(self._base_outputs, task, model, run))
            rounds[t] |= self._against_base(task, policies[-1], base, judge, run, t)
            self._say_one_sided(rounds)
            run.log(round=t, **rounds[t])
        best = _best(rounds)
        _say_no_gain(rounds, best)
        policy = policies[best + 1] if rounds else model
        if self.lookahead and history:
            pooled = [pair for pairs in history for pair, _ in pairs]
            policy = run.stage("lookahead", lambda: prefer(model, pooled, self.preference, run, "policy"))
        return Fit(
            model=policy,
            parts={f"policy-{t + 1}": one for t, one in enumerate(policies[1:])},
            metrics={"rounds": rounds, "best_round": best + 1},
            pictures=round_pictures(rounds) if rounds else [],
        )

    def _open_judge(self, task: ReasoningTask, model: LanguageModel, run: Run) -> Judge:
        found = open_judge(
            self.judge, self.judge_model, task, model, lambda problem: posed(model, task, problem), run.meter
        )
        return blind(found, run.seed)

    def _require_prompts(self, task: ReasoningTask) -> None:
        if len(task.train) < self.rounds:
            raise DataError(
                f"{task.name!r} has {len(task.train)} training prompts, and each of the {self.rounds} rounds "
                "needs prompts of its own. Give more prompts, or fewer rounds."
            )

    def _compare(
        self,
        task: ReasoningTask,
        policy: LanguageModel,
        judge: Judge,
        prompts: Sequence[Problem],
        run: Run,
        t: int,
    ) -> list[Record]:
        """Draw K outputs of every prompt from pi_t, add the reference, compare all; one record a prompt."""

        def compare(problems: Sequence[Problem]) -> list[Record]:
            keys = [[run.key("outputs", t, p.id, i) for i in range(self.samples)] for p in problems]
            groups = draw_groups(
                policy,
                task,
                problems,
                run.meter,
                keys=keys,
                temperature=self.temperature,
                top_p=self.top_p,
            )
            records = [self._outputs(task, policy, group) for group in groups]
            contests = [
                Contest(problem, tuple(record["texts"]))
                for problem, record in zip(problems, records, strict=True)
            ]
            asks = self.pairing != WITHOUT_JUDGE
            verdicts: Sequence[np.ndarray | None] = judge(contests) if asks else [None] * len(contests)
            return [
                {**record, **judged(record, verdict, self.unit)}
                for record, verdict in zip(records, verdicts, strict=True)
            ]

        return run.map_batches("outputs", prompts, self.batch, compare)

    def _outputs(self, task: ReasoningTask, policy: LanguageModel, group: Group) -> Record:
        texts = [answer.text for answer in group.answers]
        ids = [list(answer.tokens) for answer in group.answers]
        drawn = sum(map(len, ids))
        reference = task.oracle.solution(group.problem) if self.gold else None
        if reference is not None:
            texts.append(task.written(reference))
            end = [] if policy.end is None else [policy.end]
            ids.append([*policy.encode_all(texts[-1:], begins=False)[0], *end])
        return {
            "problem": group.problem.id,
            "prompt": posed(policy, task, group.problem),
            "texts": texts,
            "ids": ids,
            "tokens": drawn,
            "samples": self.samples,
            "gold": None if reference is None else self.samples,
            "defective": [not text.strip() or repeats(text) > self.repeated for text in texts],
        }

    def _learn(self, policies: Sequence[LanguageModel], history: Sequence[Any], run: Run) -> LanguageModel:
        """Train pi_t on its pairs and some of earlier rounds; the reference reads all of them anew."""
        rate = self.preference.learning_rate * self.rate_factor ** (len(history) - 1)
        return prefer(
            policies[-1],
            [pair for pair, _ in replayed(history, self.replay, run)],
            replace(self.preference, learning_rate=rate),
            run,
            "policy",
            reference=policies[0] if self.reference == "base" else policies[-1],
        )

    def _base_outputs(self, task: ReasoningTask, model: LanguageModel, run: Run) -> list[Record]:
        """Draw what all rounds are compared with on validation prompts."""
        return outputs_of(model, task, task.validation[: self.validation], run, self.temperature, self.batch)

    def _against_base(
        self,
        task: ReasoningTask,
        policy: LanguageModel,
        base: Sequence[Record],
        judge: Judge,
        run: Run,
        t: int,
    ) -> Record:
        """Return the win rate of a policy over the given one on validation prompts, where known."""
        problems = task.validation[: len(base)]
        work = partial(duel, policy, base, task, problems, judge, run, self.temperature, self.batch)
        rows = run.stage(f"validation-{t}", work)
        if not rows or len(rows) < min(self.validation, len(task.validation)):
            return {"win_rate": None, "length_controlled": None}
        wins = np.array([row["win"] for row in rows])
        ours, theirs = np.array([row["lengths"] for row in rows]).T
        return {"win_rate": float(wins.mean()), "length_controlled": length_controlled(wins, ours, theirs)}

    def _no_pairs(self, records: Sequence[Record], t: int) -> str:
        if self.pairing == WITHOUT_JUDGE:
            return (
                f"The task gives no reference for any of the {len(records)} prompts of round {t}, and "
                f"pairing {WITHOUT_JUDGE} needs one for each. Take pairing all, or prompts with references."
            )
        return (
            f"No two outputs to any of the {len(records)} problems of round {t} differ enough for a pair: "
            f"the winner needs a score of {self.least:g} and a lead of {self.gap:g} (a sample "
            f"{self.student_gap:g}). Scores: {histogram(records)}. Lower the margins, draw more samples, "
            "or take a judge that tells outputs apart."
        )

    def _say_one_sided(self, rounds: Sequence[Record]) -> None:
        students = rounds[0]["student>gold"] + rounds[0]["student>student"]
        if len(rounds) == 1 and self.pairing == "all" and not students:
            warnings.warn(
                f"In the first round the reference won all {rounds[0]['pairs']} pairs and no sample won any. "
                "Going on so is the same as pairing reference-over-students: the model learns to imitate and "
                "cannot overtake. Lower student_gap, or start from a better model.",
                stacklevel=2,
            )


def _say_no_gain(rounds: Sequence[Record], best: int) -> None:
    """Warn where even the best round loses to the given model."""
    rate = rounds[best]["win_rate"] if rounds else None
    if rate is not None and rate < 0.5:
        warnings.warn(
            f"No round wins over the given model on validation prompts: the best, round {best + 1}, wins "
            f"{rate:.1%}, by the judge that it learnt from. Take a lower rate (--preference.learning-rate), "
            "wider margins (--gap, --student-gap) or more prompts a round.",
            stacklevel=3,
        )


def _best(rounds: Sequence[Record]) -> int:
    """Return the round of the highest win rate, the last one where that is unknown."""
    known = [(one["win_rate"], t) for t, one in enumerate(rounds) if one["win_rate"] is not None]
    return max(known)[1] if known else len(rounds) - 1
