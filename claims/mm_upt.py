"""What MM-UPT is worth, on questions about images of digits with a tiny vision-language model.

R1: training on questions without answers raises greedy accuracy on images that were never seen by at least
3 points. R2: it reaches at least 60 percent of what the same training reaches with true answers. R3: single
samples come within 3 points of the base's votes over 12, and rewards dealt out at random gain nothing.

The base has seen questions about 240 labelled images; the questions to train on are about 897 others, read
without labels. All arms draw as many samples; LMSI (fine-tuning on the samples that agree with the vote) is
reported, and so are the types of questions. Settings were fixed on validation images, which are the base's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from selfstudy.core.files import write_whole
from selfstudy.core.run import Run
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.pass_at_k import sampled_verdicts
from selfstudy.learning.fine_tuning import FineTuning, fine_tune
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.learning.reward_groups import draw_step
from selfstudy.methods.reasoning.mm_upt import MmUpt
from selfstudy.methods.reasoning.rest_em import solution_example
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny_vision import random_tiny_vision_model
from selfstudy.search.solvers import greedy_solver, voting_solver
from selfstudy.signals.rewards import majority
from selfstudy.tasks.digit_sums import CHARACTERS, QUESTIONS, digit_sums
from selfstudy.tasks.reasoning import ReasoningTask

BASE = FineTuning(learning_rate=1.5e-3, steps=250, batch=64)
QUESTIONS_SEEN = 3000  # about the labelled images
TEST = 600
TRAINING: dict[str, Any] = {
    "steps": 30,
    "problems": 24,
    "samples": 12,
    "temperature": 1.0,
    "monitor": 0,
    "gradient": PolicyGradient(learning_rate=3e-5, clip_high=0.3, dual_clip=3.0, kl=0.01),
}
LMSI = FineTuning(learning_rate=3e-5, steps=30, batch=288)
ARMS = {"MM-UPT": "majority", "supervised GRPO": "gold", "random rewards": "random"}


def measure(seed: int, run: Run) -> Values:
    """Train all arms on one seed's questions, and count right answers to 600 about test images."""
    base = shared_base(run)
    blind = digit_sums(labels=False, train=2000, validation=0, test=TEST, seed=1000 + seed)
    known = digit_sums(train=2000, validation=0, test=TEST, seed=1000 + seed)
    policies = {"base": base}
    for arm, labels in ARMS.items():
        task = known if labels == "gold" else blind
        policies[arm] = run.stage(arm, partial(_trained, task, base, run, labels))
    policies["LMSI"] = run.stage("LMSI", partial(lmsi, blind, base, run))
    values: Values = {}
    for arm, policy in policies.items():
        right = run.stage(f"greedy {arm}", partial(_greedy, policy, blind))
        values[arm] = right
        for question in QUESTIONS:
            of_kind = [
                known for known, problem in zip(right, blind.test, strict=True) if problem.prompt == question
            ]
            values[f"{arm}, {question[:-1]}"] = of_kind
    votes = voting_solver(base, blind, samples=12, vote="majority", seed=seed, temperature=1.0)
    voted = run.stage("base votes", lambda: list(blind.evaluate(votes).correct))
    single = run.stage("samples", partial(_singles, policies["MM-UPT"], blind, seed))
    start = run.stage("base samples", partial(_singles, base, blind, seed))
    share = {name: sum(values[name]) / TEST for name in policies}  # type: ignore[arg-type]
    values |= {
        "base, 3 points more": share["base"] + 0.03,
        "base, 1 point more": share["base"] + 0.01,
        "gain of MM-UPT": share["MM-UPT"] - share["base"],
        "60 % of the supervised gain": 0.6 * (share["supervised GRPO"] - share["base"]),
        "single samples of the base": start,
        "votes of the base": voted,
        "votes of the base, 3 points less": sum(voted) / TEST - 0.03,
        "single samples of MM-UPT": single,
    }
    return values


def shared_base(run: Run) -> LanguageModel:
    """Return the base, which is made once for all seeds."""
    folder = run.directory.parent / "base"
    if not folder.exists():
        task = digit_sums(source="labelled", train=QUESTIONS_SEEN, validation=0, test=1, seed=77)
        fresh = random_tiny_vision_model(3, 96, vocabulary=CHARACTERS)
        examples = []
        for problem in task.train:
            steps = task.oracle.solution(problem)
            assert steps is not None
            examples.append(solution_example(task, fresh, problem, steps))
        with Run(run.directory.parent / "base-run") as own:
            write_whole(folder, fine_tune(fresh, examples, BASE, own, "base").save)
    return LanguageModel.load(folder)


def lmsi(task: ReasoningTask, base: LanguageModel, run: Run) -> LanguageModel:
    """Return the base fine-tuned on as many samples as an arm draws, those that agree with the vote."""
    examples = []
    for step in range(TRAINING["steps"]):
        groups = draw_step(base, task, run, step, TRAINING["problems"], TRAINING["samples"], 1.0)
        for group, rewards in zip(groups, majority(task)(groups), strict=True):
            agreed = {a.steps for a, reward in zip(group.answers, rewards, strict=True) if reward}
            examples += [solution_example(task, base, group.problem, steps) for steps in sorted(agreed)]
    return fine_tune(base, examples, LMSI, run, "policy")


def _trained(task: ReasoningTask, base: LanguageModel, run: Run, labels: Any) -> LanguageModel:
    fitted = MmUpt(labels=labels, **TRAINING).fit(task.metered(run.meter), base, run)
    model: LanguageModel = fitted.model
    return model


def _greedy(policy: LanguageModel, task: ReasoningTask) -> list[bool]:
    return list(task.evaluate(greedy_solver(policy, task)).correct)


def _singles(policy: LanguageModel, task: ReasoningTask, seed: int) -> float:
    return float(sampled_verdicts(task, policy, samples=4, seed=seed).mean())


CLAIMS = [
    Claim(
        name="R1-without-labels",
        statement="Training on questions without answers raises greedy accuracy on unseen images over the "
        "base, by at least 3 points.",
        seeds=range(5),
        measure=measure,
        relations=[
            Relation("over the base", "MM-UPT", "base"),
            Relation("by at least 3 points", "MM-UPT", "base, 3 points more"),
            Relation("at least 60 % of the supervised gain", "gain of MM-UPT", "60 % of the supervised gain"),
            Relation(
                "single samples within 3 points of the base's votes, or above",
                "single samples of MM-UPT",
                "votes of the base, 3 points less",
            ),
            Relation("random rewards gain less than a point", "base, 1 point more", "random rewards"),
        ],
    ),
]
