"""What hints for failed problems are worth: Guide against GRPO with the same selection of groups.

Chains of 4 steps of arithmetic modulo 100 (`47+8-2:` is solved by the lines `47+8=55`, `55-2=53`), and a
base of 0.25 million weights with a bad habit: in training, nine of ten lines left the step out and repeated
the number (`47+8=47`), and about one of seven after the hint, one character before the question. So the base
solves next to nothing without the hint, about half with it, and what goes wrong with it is the habit; half of
its training questions had it. Both contestants start from this base and draw equal numbers of tokens, hinted
ones and those for looking at hints included; the test is without hints, on problems that nobody has seen.
Answers are judged right or wrong. Where a method gives up, because in twenty steps in a row there was nothing
to learn from, the base stands for it.

Settings were fixed on validation problems (seeds from 100 on), then the claim was run once, on seeds 5 to 9.
It was run before on seeds 10 to 14, on a base that left out seven of ten lines and none after the hint, and
failed: there right and wrong hinted answers both did their steps, so that nothing spoke against the habit.
LOG.md tells of it, and of bases whose hints helped too little to tell anything.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError
from selfstudy.core.method import Fit
from selfstudy.core.random import generator, stream_key
from selfstudy.core.run import Run
from selfstudy.data.chains import draw, read_chain, solve
from selfstudy.data.splits import split_of
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.pass_at_k import pass_at_k, sampled_verdicts
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.methods.reasoning.guide import Guide
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.hints import draw_hinted
from selfstudy.signals.rewards import verified
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.chain import CHAIN_FORM, LINE_CHARACTERS, chain_length, fill_splits
from selfstudy.tasks.reasoning import Item, ReasoningTask

HINT = "="
LEFT_OUT, LEFT_OUT_HINTED = 0.9, 0.15  # of the steps in the base's training, without the hint and with it
STEPS = 4
TESTED = 600
WARM_UP = FineTuning(learning_rate=3e-3, steps=1200, batch=128)
TOKENS = 160_000
GUIDE = Guide(
    steps=1000,  # until the tokens are spent
    problems=8,
    gain_samples=8,
    gradient=PolicyGradient(learning_rate=3e-4),
)
ARMS = {"Guide": GUIDE, "GRPO, filtered": replace(GUIDE, hints="never")}


def hinted_chains(seed: int) -> ReasoningTask:
    """Return the task: chain100's problems, all with the same hint."""

    def items(block: int, n: int) -> list[Item]:
        prompts, solutions = draw(generator("hinted", seed, block), n, STEPS)
        return [Item(p, lines[-1][-2:], lines, (HINT,)) for p, lines in zip(prompts, solutions, strict=True)]

    name = f"hinted-chains-{seed}"
    return ReasoningTask(
        name,
        fill_splits(name, items, {"train": 400, "validation": TESTED, "test": TESTED}),
        form=replace(CHAIN_FORM, room=lambda prompt: LINE_CHARACTERS * chain_length(prompt)),
        verifier=verifier("chain"),
        max_steps=STEPS,
        step_tokens=2 * LINE_CHARACTERS,
        solution_tokens=LINE_CHARACTERS * STEPS,
    )


def with_steps_left_out(prompt: str, share: float, rng: np.random.Generator) -> list[str]:
    """Return the lines of a solution that leaves out a share of the steps, each going on from the last."""
    chain = read_chain(prompt)
    value, lines = f"{chain.start:02d}", []
    for operator, operand in chain.terms:
        (line,) = solve(f"{value}{operator}{operand}:")
        lines.append(f"{line[:-2]}{value}" if rng.random() < share else line)
        value = lines[-1][-2:]
    return lines


def base(run: Run) -> LanguageModel:
    """Return the model that all start from, made once for all seeds, beside their runs."""
    examples, rng = [], generator("hinted", "base")
    for prompt in draw(rng, 2 * WARM_UP.batch * (WARM_UP.steps or 1), (1, STEPS))[0]:
        hint = HINT if rng.random() < 0.5 else None
        lines = with_steps_left_out(prompt, LEFT_OUT_HINTED if hint else LEFT_OUT, rng)
        if split_of(prompt) == "train":
            examples.append(Example(CHAIN_FORM.prompt(prompt, hint=hint), "".join(f"{x}\n" for x in lines)))
    with Run(run.directory.parent / "base", {"examples": len(examples)}) as made:
        start = random_tiny_model(2, 96)
        return made.stage("base", lambda: fine_tune(start, examples, WARM_UP, made, "base"))


def measure(seed: int, run: Run) -> Values:
    """Measure both contestants of one seed, without hints.

    Seeds from 100 on, for which settings were chosen, use validation problems.
    """
    task, start = hinted_chains(seed), base(run)
    split = "test" if seed < 100 else "validation"
    values: Values = {
        "base": run.stage("pass base", lambda: _passes(task, start, split))[0],
        "base with hints, training problems": run.stage("hinted base", lambda: _hinted(task, start)),
    }
    for name, method in ARMS.items():
        config = {"arm": name, "seed": seed}
        with Run(run.directory / name, config, seed=seed, budget=Budget(generated_tokens=TOKENS)) as own:
            try:
                fitted = method.fit(task.metered(own.meter), start, own)
            except DataError:  # twenty steps in a row without a mixed group: the base is all there is
                fitted = Fit(model=start, metrics={"gains": {"capability": 0, "problems": 1}})
            spent = own.meter.snapshot()["generated_tokens"]
        passes = run.stage(f"pass {name}", partial(_passes, task, fitted.model, split))
        gained = fitted.metrics["gains"]
        values[name] = passes[0]
        values[f"{name}, pass@16"] = passes[1]
        values[f"{name}, newly solved training problems"] = gained["capability"] / gained["problems"]
        values[f"{name}, tokens"] = spent
    return values


def _passes(task: ReasoningTask, model: LanguageModel, split: str) -> list[float]:
    """Return pass@1 from 4 samples of each problem of a split, and pass@16 on the first 100."""
    four = sampled_verdicts(task, model, samples=4, seed=0, split=split)
    sixteen = sampled_verdicts(task, model, samples=16, seed=1, split=split, limit=100)
    return [float(four.mean()), float(pass_at_k(sixteen.sum(1), 16, 16).mean())]


def _hinted(task: ReasoningTask, model: LanguageModel) -> float:
    problems = task.train[:200]
    keys = [[stream_key("hinted", problem.id, i) for i in range(4)] for problem in problems]
    texts = [HINT] * len(problems)
    groups = draw_hinted(model, task, problems, texts, task.meter, keys=keys, temperature=1.0)
    return float(verified(task)(groups).mean())


CLAIMS = [
    Claim(
        name="R1-hints",
        statement="At equal generated tokens, Guide solves more test problems without hints (pass@1) than "
        "GRPO with the same selection of groups; 2 points or more were asked for.",
        seeds=range(5, 10),
        measure=measure,
        relations=[Relation("over filtered GRPO", "Guide", "GRPO, filtered")],
    ),
]
