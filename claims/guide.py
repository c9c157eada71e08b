"""What hints for failed problems are worth: Guide against GRPO with the same selection of groups.

Worksheets of 3 to 6 steps of arithmetic modulo 100: `47+8==-2==:` asks for the lines `47+8=55`, `55-2=53`.
A hint fills in the first half of the blanks, `47+855-2==:`; the whole solution is to be written all the same.
All contestants start from one base of 0.25 million weights that can copy steps and read hints, which were in
a fifth of its training, adds and subtracts right in about five of six lines, and knows little of products:
its training solutions had random results in their place. So problems with several products fail, and hints
are where products can be learnt from. Contestants draw equal numbers of tokens, hinted ones and those for
looking at hints included. The base has seen no test problem. Answers are judged right or wrong. The settings
were fixed before the first run of this claim and not tried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from selfstudy.core.budget import Budget
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.chains import MODULUS, chain_answer, chain_length, draw, read_chain, solve
from selfstudy.data.splits import split_of
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.pass_at_k import pass_at_k, sampled_verdicts
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.methods.reasoning.guide import Guide
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.signals.verifiers import Verifier
from selfstudy.tasks.chain import LINE_CHARACTERS, fill_splits
from selfstudy.tasks.forms import SolutionForm
from selfstudy.tasks.reasoning import Item, ReasoningTask

BLANK = "=="
SHORTEST, LONGEST = 3, 6
HINTED = 0.2  # of the base's training
RANDOM = {"+": 1 / 6, "-": 1 / 6, "*": 0.9}  # share of random results in the base's training
WARM_UP = FineTuning(learning_rate=3e-3, steps=280, batch=96)
TOKENS = 300_000
GUIDE = Guide(
    steps=1000,  # until the tokens are spent
    problems=8,
    draws=4,
    gain_samples=8,
    gradient=PolicyGradient(learning_rate=1e-3),
)
ARMS = {
    "Guide": GUIDE,
    "GRPO, filtered": replace(GUIDE, hints="never"),
}


def worksheet(prompt: str, results: Sequence[str] = ()) -> str:
    """Return a chain such as `47+8-2:` with a blank after each step, the first ones filled in."""
    steps = [prompt[i : i + 2] for i in range(2, len(prompt) - 1, 2)]
    blanks = [*results, *[BLANK] * (len(steps) - len(results))]
    return prompt[:2] + "".join(map("".join, zip(steps, blanks, strict=True))) + ":"


def chain_of(question: str) -> str:
    """Return the chain of a worksheet without results."""
    return question.replace(BLANK, "")


def first_half(lines: Sequence[str]) -> list[str]:
    """Return the results of the first half of a solution's lines."""
    return [line[-2:] for line in lines[: -(-len(lines) // 2)]]


def worksheets(train: int, seed: int) -> ReasoningTask:
    """Return the task; its hints are results that `hinted` fills in."""

    def items(block: int, n: int) -> list[Item]:
        prompts, solutions = draw(generator("worksheets", seed, block), n, (SHORTEST, LONGEST))
        return [
            Item(worksheet(prompt), lines[-1][-2:], lines, ("\n".join(first_half(lines)),))
            for prompt, lines in zip(prompts, solutions, strict=True)
        ]

    form = SolutionForm(
        ended=lambda question, steps: len(steps) >= chain_length(chain_of(question)),
        answer=lambda question, steps: chain_answer(chain_of(question) if question else None, steps),
        room=lambda question: LINE_CHARACTERS * chain_length(chain_of(question)),
        hinted=lambda question, hint: worksheet(chain_of(question), hint.split()) if question else hint,
        tells=lambda question, answer, hint: len(hint.split()) >= chain_length(chain_of(question)),
    )
    name = f"worksheets-{seed}"
    return ReasoningTask(
        name,
        fill_splits(name, items, {"train": train, "validation": 0, "test": 600}),
        form=form,
        verifier=Verifier(
            "worksheet",
            lambda question, gold, given: chain_answer(chain_of(question), given.splitlines()) == gold,
            reads="solution",
        ),
        max_steps=LONGEST,
        step_tokens=2 * LINE_CHARACTERS,
        solution_tokens=LINE_CHARACTERS * LONGEST,
    )


def with_random_results(prompt: str, rng: np.random.Generator) -> list[str]:
    """Return the lines of a solution in which some results are random; each goes on from the one before."""
    chain = read_chain(prompt)
    value, lines = f"{chain.start:02d}", []
    for operator, operand in chain.terms:
        (line,) = solve(f"{value}{operator}{operand}:")
        if rng.random() < RANDOM[operator]:
            line = f"{line[:-2]}{rng.integers(MODULUS):02d}"
        lines.append(line)
        value = line[-2:]
    return lines


def base(run: Run) -> LanguageModel:
    """Return the model that all start from, made once for all seeds, beside their runs."""
    examples, rng = [], generator("worksheets", "base")
    for prompt in draw(rng, 2 * WARM_UP.batch * (WARM_UP.steps or 1), (1, LONGEST))[0]:
        lines = with_random_results(prompt, rng)
        hint = first_half(lines) if rng.random() < HINTED and len(lines) > 1 else []
        if split_of(worksheet(prompt)) == "train":
            examples.append(Example(worksheet(prompt, hint), "".join(f"{line}\n" for line in lines)))
    with Run(run.directory.parent / "base", {"examples": len(examples)}) as made:
        start = random_tiny_model(2, 96)
        return made.stage("base", lambda: fine_tune(start, examples, WARM_UP, made, "base"))


def measure(seed: int, run: Run) -> Values:
    """Measure both contestants of one seed, without hints, on test problems."""
    task, start = worksheets(400, seed), base(run)
    values: Values = {"base": run.stage("pass base", lambda: _passes(task, start))[0]}
    for name, method in ARMS.items():
        config = {"arm": name, "seed": seed}
        with Run(run.directory / name, config, seed=seed, budget=Budget(generated_tokens=TOKENS)) as own:
            fitted = method.fit(task.metered(own.meter), start, own)
            spent = own.meter.snapshot()["generated_tokens"]
        passes = run.stage(f"pass {name}", lambda model=fitted.model: _passes(task, model))
        gained = fitted.metrics["gains"]
        values[name] = passes[0]
        values[f"{name}, pass@16"] = passes[1]
        values[f"{name}, newly solved training problems"] = gained["capability"] / gained["problems"]
        values[f"{name}, tokens"] = spent
    return values


def _passes(task: ReasoningTask, model: LanguageModel) -> list[float]:
    """Return pass@1 from 4 samples of each problem, and pass@16 on the first 100."""
    four = sampled_verdicts(task, model, samples=4, seed=0)
    sixteen = sampled_verdicts(task, model, samples=16, seed=1, limit=100)
    return [float(four.mean()), float(pass_at_k(sixteen.sum(1), 16, 16).mean())]


CLAIMS = [
    Claim(
        name="R1-hints",
        statement="At equal generated tokens, Guide solves more test problems without hints (pass@1) than "
        "GRPO with the same selection of groups; the paper's size of effect would be 2 points or more.",
        seeds=range(5),
        measure=measure,
        relations=[Relation("over filtered GRPO", "Guide", "GRPO, filtered")],
    ),
]
