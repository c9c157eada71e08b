"""A whole GRPO step, drawing, judging and learning, against TRL's GRPOTrainer, in turn, in one process.

Method: one model (Llama, 4 layers of width 128, 0.8 million weights, the tiny language model's tokenizer with
an end token, which TRL needs), one set of 256 prompts (chains of 4 steps), answers in groups of 8 at
temperature 1, reward the share of the digit 7 among the allowed tokens, AdamW at 3e-4, one gradient step for
each collection, token mean (TRL: loss_type "dapo"), no distance from the start, float32. TRL generates by
transformers in one batch; its logging, evaluation and saving are off. Both begin at the same weights and draw
their own answers. A repetition is 10 steps of each, after 2 that are not timed; medians and quartiles over
the repetitions. With the short prompts, the mean reward of the last 5 of 60 steps, over 3 seeds, tells
whether both learn as much.

short: 4 prompts of 11 tokens, answers of at most 24 tokens. Half of the step is the gradient, which TRL takes
  through transformers' module, and the model's own training pass without it.
solved: 8 prompts of 183 tokens (four solved chains before each), answers of at most 32 tokens: the prompt is
  read once for the 8 answers of a group, in drawing and in learning.

Needs trl (pip install --no-deps trl==1.16.0), which is a part of no extra.

    python benchmarks/grpo_step.py [--repetitions 5] [--threads 1] [--only short solved] [--json PATH]
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfstudy.core.budget import Meter
from selfstudy.core.files import write_json
from selfstudy.core.machine import hardware, versions
from selfstudy.core.run import Run
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, optimise_policy
from selfstudy.learning.reward_groups import learnable
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.search.rollouts import draw_groups
from selfstudy.tasks.loading import task as load_task
from selfstudy.tasks.reasoning import Problem

PROMPTS, GROUP, RATE = 256, 8, 3e-4
STEPS, WARM = 10, 2
LEARNING_STEPS, SEEDS = 60, (0, 1, 2)


@dataclass(frozen=True)
class Shape:
    """Of a step."""

    per_step: int
    """Prompts."""
    tokens: int
    """Most tokens of an answer."""
    solved: int
    """Solved chains before each prompt: the same ones, 43 tokens each."""

    def reward(self, text: str) -> float:
        """The share of the allowed tokens that are a 7."""
        return text.count("7") / self.tokens

    def problems(self) -> tuple[Problem, ...]:
        """Chains of 4 steps."""
        return load_task(f"chain100?steps=4&train={PROMPTS}&validation=0&test=1").train

    def prompts(self) -> list[str]:
        """The texts that are continued."""
        task = load_task(f"chain100?steps=4&train={PROMPTS + self.solved}&validation=0&test=1")
        shown = task.train[PROMPTS:]
        lines = [p.prompt + "".join(f"{line}\n" for line in task.oracle.solution(p) or ()) for p in shown]
        return ["".join(lines) + problem.prompt for problem in self.problems()]


SHAPES = {"short": Shape(per_step=4, tokens=24, solved=0), "solved": Shape(per_step=8, tokens=32, solved=4)}


def ours(
    shape: Shape, model: LanguageModel, steps: int, seed: int, folder: Path
) -> Iterator[tuple[float, float]]:
    """Yield the mean reward and the seconds of each step."""
    task = copy.copy(load_task(f"chain100?steps=4&train={PROMPTS}&validation=0&test=1"))
    task.form = replace(task.form, room=lambda _: shape.tokens)
    prompts, problems = shape.prompts(), shape.problems()
    times: list[float] = []
    rewards: list[float] = []

    def collect(policy: LanguageModel, step: int) -> Collection:
        times.append(time.perf_counter())
        places = [(step * shape.per_step + i) % PROMPTS for i in range(shape.per_step)]
        keys = [[run.key("answers", step, place, i) for i in range(GROUP)] for place in places]
        groups = draw_groups(
            policy,
            task,
            [problems[i] for i in places],
            Meter(),
            keys=keys,
            temperature=1.0,
            prompts=[prompts[i] for i in places],
        )
        found = np.array([[shape.reward(answer.text) for answer in group.answers] for group in groups])
        rewards.append(float(found.mean()))
        return learnable(groups, found, "grpo", leave_out=False, figures={})

    with Run(folder, {}, seed=seed) as run:
        optimise_policy(
            model,
            collect,
            PolicyGradient(learning_rate=RATE),
            run,
            "policy",
            steps=steps,
            longest=shape.tokens,
        )
    times.append(time.perf_counter())
    yield from zip(rewards, np.diff(times).tolist(), strict=True)


def trl(
    shape: Shape, model: LanguageModel, steps: int, seed: int, folder: Path
) -> Iterator[tuple[float, float]]:
    """Yield the mean reward and the seconds of each step of TRL's trainer."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    times: list[float] = []
    rewards: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    def judged(completions: list[str], **_: Any) -> list[float]:
        found = [shape.reward(text) for text in completions]
        rewards.append(float(np.mean(found)))
        return found

    learner = model.copy()
    config = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        max_steps=steps,
        seed=seed,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        per_device_train_batch_size=shape.per_step * GROUP,
        num_generations=GROUP,
        max_completion_length=shape.tokens,
        temperature=1.0,
        top_k=0,
        beta=0.0,
        loss_type="dapo",
        num_iterations=1,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    trainer = GRPOTrainer(
        model=learner.module,
        reward_funcs=judged,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": shape.prompts()}),
        processing_class=learner.tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    times.append(time.perf_counter())
    yield from zip(rewards[:steps], np.diff(times).tolist(), strict=True)


SIDES = {"selfstudy": ours, "trl": trl}


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}


def measure(shape: Shape, repetitions: int) -> dict[str, Any]:
    """Return the times of both sides in turn, and what they have learnt."""
    model = random_tiny_model(seed=0, end=True)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    curves: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repetitions):
            for side, train in SIDES.items():
                steps = list(train(shape, model, STEPS + WARM, turn, Path(folder) / f"{side}-{turn}"))
                seconds[side].append(float(np.mean([second for _, second in steps[WARM:]])))
        for seed in SEEDS if not shape.solved else ():
            for side, train in SIDES.items():
                steps = list(train(shape, model, LEARNING_STEPS, seed, Path(folder) / f"{side}-long-{seed}"))
                curves[side].append(float(np.mean([found for found, _ in steps[-5:]])))
    ratios = [b / a for a, b in zip(seconds["selfstudy"], seconds["trl"], strict=True)]
    prompt = float(np.mean([len(row) for row in model.encode_all(shape.prompts())]))
    return {
        "answers": shape.per_step * GROUP,
        "prompt_tokens": prompt,
        "answer_tokens": shape.tokens,
        "seconds_a_step": {side: spread(values) for side, values in seconds.items()},
        "times_ours": spread(ratios),
        "reward_of_the_last_steps": curves,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    warnings.simplefilter("ignore")
    result = {
        "shapes": {name: measure(SHAPES[name], options.repetitions) for name in options.only},
        "threads": options.threads,
        "versions": versions() | {"trl": importlib.metadata.version("trl")},
        "hardware": hardware(),
    }
    print(json.dumps(result, indent=1))
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
