"""The smallest settings of every method, and what the contracts need to know of its family.

A new method is held to the contracts by a line in `SMALLEST`; a new family by an object like `Reasoning` or
`Laboratory`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.index import METHODS
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.rationales import Rationales
from selfstudy.learning import (
    further_pretraining,
    noisy_labels,
    pool_learners,
    pretraining,
    self_paced,
    stages,
    stream_batches,
    supervised,
    transduction,
    workloads,
)
from selfstudy.methods.representation import gcool
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, TorchSampler
from selfstudy.models.tagging.linear import PerceptronTagger
from selfstudy.search.solvers import greedy_solver, sample_solutions, voting_solver
from selfstudy.signals.verifiers import verifier
from selfstudy.tasks.arrays import ArraysTask
from selfstudy.tasks.chain import CHAIN_FORM, LINE_CHARACTERS, draw, fill_splits, first_lines
from selfstudy.tasks.cooccurrence import CooccurrenceTask
from selfstudy.tasks.projected_images import ProjectedImages
from selfstudy.tasks.reasoning import Item, ReasoningTask
from selfstudy.tasks.regression import InContextRegression
from selfstudy.tasks.table_task import Labelled


class Reasoning:
    """Chains of two steps; the truth is in answers and reference solutions."""

    task = "chain100?steps=2&train=12&validation=0&test=12"
    learning_task = "chain100?steps=8&train=96&validation=0&test=400"
    model = "tiny-lm"
    unknown = (("--task", "chain1000"), ("--model", "tiny-ml"))
    """Names that do not exist, by option."""
    least_gain = 0.02
    """Points of accuracy that count as learning."""
    units = (("generated_tokens", 0.6), ("generated_tokens", 0.01), ("samples", 0.6))
    """Limits to try: budget unit, share of what a free run spends."""
    work = "generated_tokens"
    """The unit that `counted` counts and the records tell."""

    def with_wrong_truth(self, *splits: str) -> ReasoningTask:
        """The task with every answer and every solution of `splits` replaced by a wrong one."""

        def items(block: int, n: int) -> list[Item]:
            prompts, solutions = draw(np.random.default_rng(block), n, 2)
            return [
                Item(p, lines[-1][-2:], lines, first_lines(lines))
                for p, lines in zip(prompts, solutions, strict=True)
            ]

        kept = fill_splits("chains", items, {"train": 12, "validation": 0, "test": 12})
        for split in splits:
            kept[split] = [Item(item.prompt, _wrong(item.answer), ("10+1=11",) * 2) for item in kept[split]]
        return ReasoningTask(
            "chains",
            kept,
            form=CHAIN_FORM,
            verifier=verifier("chain"),
            max_steps=2,
            step_tokens=2 * LINE_CHARACTERS,
            solution_tokens=3 * LINE_CHARACTERS,
        )

    def misfit(self) -> tuple[LanguageModel, type[Exception], str]:
        """The model with room for four tokens; what must be raised, and a word of the message."""
        model = selfstudy.model(self.model).copy()
        model.module.config.max_position_embeddings = 4
        return LanguageModel("short", model.module, model.tokenizer), DataError, "context"

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[float]]:
        """Collect the lengths of all completions that are drawn inside the block, whoever meters them."""
        lengths: list[float] = []
        sample = TorchSampler.sample

        def counting(self: TorchSampler, requests: Any) -> list[Completion]:
            completions = sample(self, requests)
            lengths.extend(len(completion.tokens) for completion in completions)
            return completions

        TorchSampler.sample = counting  # type: ignore[method-assign]
        try:
            yield lengths
        finally:
            TorchSampler.sample = sample  # type: ignore[method-assign]

    def figures(self, model: LanguageModel, task: ReasoningTask, temperature: float) -> list[bool]:
        """Which test problems the model solves, greedily at temperature 0, else in one sample."""
        if temperature:
            solver = voting_solver(model, task, samples=1, vote="majority", seed=0, temperature=temperature)
        else:
            solver = greedy_solver(model, task)
        return list(task.evaluate(solver).correct)

    def predict(self, part: Any, task: ReasoningTask) -> Any:
        """What a trained part says about the test problems."""
        if isinstance(part, LanguageModel):
            return sample_solutions(
                part, task, task.test, Meter(), keys=range(len(task.test)), temperature=1.0
            )
        if isinstance(part, Rationales):
            return part.rows
        prefixes = [(problem.prompt, steps) for problem in task.test for steps in ((), ("11+1=12",))]
        return part.values(prefixes).tolist()


def prepared(task: Any, model: Any) -> Any:
    """The model made for the task's data, where the task makes it."""
    return task.prepared(model) if hasattr(task, "prepared") else model


def wrong_figures(task: Any, splits: Sequence[str]) -> Any:
    """Every figure of an evaluation on `splits` is turned over."""
    measure = task.measure

    def wrong(model: Any, split: str, count: int) -> Any:
        values = np.asarray(measure(model, split, count), dtype=float)
        return 1 - values if split in splits else values

    task.measure = wrong
    return task


def wrong_labels(task: Any, splits: Sequence[str]) -> Any:
    """Every label of the images in `splits` is the next one."""
    for split in splits:
        images = task._held[split]
        labels = (images.labels + 1) % len(task.classes)
        task._held = {**task._held, split: ImageSet(images.name, images.images, labels, images.classes)}
    return task


def wrong_items(task: Any, splits: Sequence[str]) -> Any:
    """Every label of the items in `splits` is the next one."""
    for split in splits:
        items = task._held[split]
        labels = (items.labels + 1) % len(task.classes)
        task._held = {**task._held, split: dataclasses.replace(items, labels=labels)}
    return task


def wrong_nodes(task: Any, splits: Sequence[str]) -> Any:
    """Every label of the nodes in `splits` is the next one."""
    task._labels = task._labels.copy()
    for split in splits:
        places = task._places[split]
        task._labels[places] = (task._labels[places] + 1) % len(task.classes)
    return task


def wrong_rows(task: Any, splits: Sequence[str]) -> Any:
    """Every class of the rows in `splits` is the next one."""
    for split in splits:
        table, answers = task._held[split]
        wrong = dataclasses.replace(answers, values=(answers.values + 1) % len(task.classes))
        task._held = {**task._held, split: Labelled(table, wrong)}
    return task


@dataclass(frozen=True, kw_only=True)
class Laboratory:
    """A small model on a task that draws its inputs, or that holds them.

    Attributes:
        task, model: specifications.
        drawn: (class or module, a function of it, how many samples a call of it draws): where every training
            sample comes from, so that samples can be counted apart from the meter.
        misfitting: specification of a model that does not fit the task, and a word of the message.
        unknown: names that do not exist, by option.
        least_gain: in units of the task's metric; `units` and `work` as in `Reasoning`.
    """

    task: str
    model: str
    drawn: tuple[Any, str, Callable[..., float]]
    misfitting: tuple[str, str]
    unknown: Sequence[tuple[str, str]]
    least_gain: float
    units: Sequence[tuple[str, float]] = (("samples", 0.6), ("samples", 0.2))
    work: str = "samples"
    wrong: Callable[[Any, Sequence[str]], Any] = wrong_figures
    """Changes a task so that the truth of the named splits is a wrong one."""
    fitted_to: str = ""
    """A task that the misfitting model is made for first."""

    def with_wrong_truth(self, *splits: str) -> Any:
        """The task with a wrong truth in `splits`."""
        return self.wrong(copy.copy(selfstudy.task(self.task)), splits)

    def misfit(self) -> tuple[Any, type[Exception], str]:
        """A model that does not fit the task; what must be raised, and a word of the message."""
        spec, word = self.misfitting
        model = selfstudy.model(spec)
        return prepared(selfstudy.task(self.fitted_to), model) if self.fitted_to else model, UsageError, word

    @contextlib.contextmanager
    def counted(self) -> Iterator[list[float]]:
        """Collect how many training samples are drawn inside the block, whoever meters them."""
        kind, name, size = self.drawn
        counts: list[float] = []
        draw = getattr(kind, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counts.append(size(*arguments, **options))
            return draw(*arguments, **options)

        setattr(kind, name, counting)
        try:
            yield counts
        finally:
            setattr(kind, name, draw)

    def figures(self, model: Any, task: Any, temperature: float) -> list[float]:
        """The figure of each test item, turned so that more is better."""
        values = task.evaluate(prepared(task, model)).values
        return [-value for value in values] if task.metric.lower_is_better else list(values)

    def predict(self, part: Any, task: Any) -> Any:
        """What a trained part does on the test items, or says of the training inputs."""
        if hasattr(part, "kept"):
            return part.kept.tolist()
        return part.by_input.tolist() if hasattr(part, "by_input") else task.evaluate(part).values


def _wrong(answer: str) -> str:
    return f"{(int(answer) + 1) % 100:02d}"


@dataclass(frozen=True, kw_only=True)
class Smallest:
    """How to run a method in a second, and how to see it learn in a few."""

    fields: dict[str, Any]
    """Hyper-parameters for the contracts that need no learning."""
    learning: dict[str, Any]
    """Hyper-parameters with which it reliably beats its untrained model on `learning_task`."""
    refused: Sequence[dict[str, Any]]
    """Fields that `fit` must refuse as a UsageError before anything is written."""
    needs_truth: bool = True
    """Whether there is nothing to learn where no answer is ever right."""
    may_ask: bool = False
    """Whether it may ask for labels with these fields."""
    seedless: bool = False
    """Whether it draws nothing, so that the seed changes nothing."""
    learning_task: str = Reasoning.learning_task
    learning_temperature: float = 0.0
    """At which it is compared with its untrained model there."""
    family: Reasoning | Laboratory = field(default_factory=Reasoning)


def _drawn(module: Any, function: str = "batch_indices") -> tuple[Any, str, Callable[..., float]]:
    """Where a module draws the samples of a step from, and how many."""
    return module, function, lambda run, name, step, samples, batch: batch


def _digits(model: str, drawn: tuple[Any, str, Callable[..., float]], labels: int = 20) -> Laboratory:
    """Small pictures with some labels, and a network for one channel."""
    kind = model.partition("?")[0]
    return Laboratory(
        task=f"digits?labels={labels}&train=100&test=40",
        model=model,
        drawn=drawn,
        misfitting=(f"{kind}?channels=3&size=32", "channels"),
        unknown=(("--task", "digit"), ("--model", kind + kind[-1])),
        least_gain=0.02,
        wrong=wrong_labels,
    )


_PRETRAINED = _drawn(pretraining, "epoch_indices")
_TUNING = {"steps": 4, "batch": 8}
_LEARNING = {"learning_rate": 2e-4, "steps": 16, "batch": 32}
SMALLEST: dict[str, Smallest] = {
    "rest-mcts": Smallest(
        fields={
            "rounds": 2,
            "first_value": "search",
            "search": {"iterations": 4},
            "batch": 5,
            "policy_tuning": _TUNING,
            "value_tuning": {"epochs": 1, "batch": 16},
        },
        learning={
            "rounds": 1,
            "temperature": 1.0,
            "search": {"iterations": 16, "branch": 8, "exploration": 0.1, "unvisited": 0.0},
            "policy_tuning": _LEARNING,
            "value_tuning": {"learning_rate": 3e-5, "epochs": 1, "batch": 64},
        },
        learning_temperature=1.0,
        refused=(
            {"rounds": 0},
            {"temperature": 0.0},
            {"search": {"iterations": 4, "seconds": 1.0}},
            {"search": {"iterations": 4, "end_gate": 1.5}},
            {"targets": "halb"},
            {"batch": "many"},
        ),
    ),
    "rest-em": Smallest(
        fields={"rounds": 2, "samples": 2, "batch": 5, "tuning": _TUNING},
        learning={"rounds": 1, "samples": 4, "temperature": 1.0, "batch": 96, "tuning": _LEARNING},
        learning_temperature=1.0,  # in seconds what it draws becomes better, not yet its likeliest answer
        refused=({"samples": 0}, {"temperature": -1.0}, {"restart": "never"}, {"tuning": {"steps": "x"}}),
    ),
    "mm-upt": Smallest(
        # Drawn hot, so that not all answers to a problem agree.
        fields={"steps": 3, "problems": 6, "samples": 4, "temperature": 1.4, "gradient": {"mini_batches": 2}},
        learning={"steps": 12, "problems": 16, "samples": 8, "temperature": 1.0, "top_p": 1.0},
        learning_task="chain100?steps=6&train=200&validation=0&test=500",
        learning_temperature=1.0,  # votes are above single samples, not above the likeliest answer
        refused=(
            {"samples": 1},
            {"temperature": 0.0},
            {"reward": "silver"},
            {"vote": "aloud"},
            {"reward": "gold", "questions": {"each": 1}},
            {"gradient": {"dual_clip": 1.0}},
        ),
        needs_truth=False,
    ),
    "trice": Smallest(
        fields={"steps": 4, "problems": 6, "terms": 8, "batch": 5, "refresh": 2},
        learning={"steps": 16, "problems": 48, "terms": 48, "tuning": {"learning_rate": 1e-4}},
        learning_task="chain100?steps=6&train=200&validation=0&test=500",
        learning_temperature=1.0,  # as for grpo
        refused=(
            {"problems": 0},
            {"refresh": 0},
            {"estimate": "bassic"},
            {"guide": "teacher"},
            {"tuning": {"average": 1.0}},
            {"tuning": {"learning_rate": "fast"}},
        ),
    ),
    "grpo": Smallest(
        # Drawn hot, so that not all answers to a problem are right.
        fields={"steps": 3, "problems": 6, "group": 4, "temperature": 1.4, "gradient": {"mini_batches": 2}},
        learning={"steps": 12, "problems": 16, "gradient": {"learning_rate": 2e-4}},
        learning_task="chain100?steps=6&train=200&validation=0&test=500",
        learning_temperature=1.0,  # in a few steps, what it draws becomes better before its likeliest answer
        refused=(
            {"group": 1},
            {"temperature": 0.0},
            {"advantages": "best"},
            {"gradient": {"clip_low": 2.0}},
            {"gradient": {"ratio": "word"}},
        ),
    ),
    "dno": Smallest(
        # Drawn hot, so that not all answers to a problem are right.
        fields={
            "rounds": 2,
            "samples": 3,
            "gold": False,
            "temperature": 2.0,
            "batch": 5,
            "preference": {"steps": 3, "batch": 8, "learning_rate": 1e-5},
        },
        learning={
            "rounds": 1,
            "samples": 4,
            "preference": {"learning_rate": 3e-5, "steps": 12, "batch": 32},
        },
        learning_task="chain100?steps=6&train=96&validation=0&test=500",
        learning_temperature=1.0,
        refused=(
            {"samples": 1},
            {"temperature": 0.0},
            {"judge": "coin"},
            {"pairing": "some"},
            {"gap": -1.0},
            {"preference": {"beta": 0.0}},
            {"preference": {"steps": "x"}},
        ),
    ),
    "astro": Smallest(
        # Plain traces: chains cannot go back. Drawn hot, so that not all answers to a problem are right.
        fields={
            "search": {"iterations": 3, "branch": 2},
            "temperature": 1.4,
            "batch": 5,
            "traces": {"wrong": (1.0,)},
            "tuning": _TUNING,
            "tries": 3,
            "difficulty": (0.0, 1.0),
            "steps": 2,
            "problems": 6,
            "group": 4,
        },
        learning={
            "search": {"iterations": 12, "branch": 2},
            "traces": {"wrong": (1.0,), "per_tree": 4},
            "tuning": {"learning_rate": 1e-4, "steps": 20, "batch": 32},
            "steps": 0,
        },
        learning_temperature=1.0,  # in seconds what it draws becomes better, not yet its likeliest answer
        refused=(
            {"group": 1},
            {"temperature": 0.0},
            {"difficulty": (0.9, 0.1)},
            {"traces": {"wrong": (0.5, 0.4)}},
            {"search": {"iterations": 0}},
        ),
    ),
    "rest-rl": Smallest(
        # Drawn hot, so that not all answers to a problem are right.
        fields={
            "assembly": {"samples": 4, "temperature": 1.4},
            "steps": 2,
            "problems": 6,
            "group": 4,
            "temperature": 1.4,
            "batch": 5,
            "search": {"iterations": 3, "samples": 3},
            "value_tuning": {"epochs": 1, "batch": 32},
        },
        # On answers that are right: policy gradients need more than seconds to be seen here.
        learning={
            "iterations": 1,
            "learn": "sft",
            "assembly": {"samples": 6},
            "tuning": _LEARNING,
            "value": False,
        },
        learning_temperature=1.0,
        refused=(
            {"group": 1},
            {"temperature": 0.0},
            {"learn": "ppo"},
            {"learn": "sft", "assembly": {"starts": "none"}},
            {"assembly": {"samples": 1}},
            {"assembly": {"decay": 0.0}},
            {"search": {"eps": 0.0}},
            {"searched": 0},
        ),
    ),
    "guide": Smallest(
        # Drawn hot, so that not all answers to a problem are right.
        fields={"steps": 3, "problems": 6, "group": 4, "draws": 2, "temperature": 1.4},
        learning={"steps": 10, "problems": 16, "draws": 2, "gradient": {"learning_rate": 2e-4}},
        learning_task="chain100?steps=6&train=200&validation=0&test=500",
        learning_temperature=1.0,  # in a few steps, what it draws becomes better before its likeliest answer
        refused=(
            {"group": 1},
            {"hints": "sometimes"},
            {"failed": 1.0},
            {"lowest": 0.9, "highest": 0.1},
            {"shaping": {"quantile": 1.0}},
            {"gradient": {"clip_low": 2.0}},
        ),
        may_ask=True,
    ),
    "self-rewarding": Smallest(
        fields={
            "rounds": 2,
            "judge": "likelihood",
            "batch": 5,
            "preference": {"steps": 3, "batch": 8, "learning_rate": 1e-5},
        },
        learning={
            "rounds": 1,
            "temperature": 1.0,
            "judge": "likelihood",
            "preference": {"learning_rate": 2e-5, "steps": 30, "batch": 32},
        },
        learning_task="chain100?steps=4&train=96&validation=0&test=500",
        learning_temperature=1.0,  # its own judgement moves greedy answers too little to be seen in seconds
        refused=({"samples": 1}, {"temperature": 0.0}, {"judge": "coin"}),
        needs_truth=False,
    ),
    "sharpening": Smallest(
        fields={"samples": 3, "batch": 5, "tuning": _TUNING},
        learning={"samples": 8, "tuning": _LEARNING},
        learning_task="chain100?steps=8&train=96&validation=0&test=500",
        learning_temperature=1.0,  # greedy answers say the likeliest already
        refused=(
            {"samples": 0},
            {"delta": 2.0},
            {"reward": "truth"},
            {"variant": "dpo"},
            {"looks": -1},
            {"batch": "many"},
        ),
        needs_truth=False,
    ),
    "scan-and-snap": Smallest(
        fields={
            "steps": 6,
            "batch": 4,
            "records": 3,
            "probe": 4,
            "sweep_ratios": [1.0, 5.0],
        },
        learning={"steps": 60, "batch": 32},
        refused=(
            {"steps": 0},
            {"attention_rate": 0.0},
            {"decoder_rate": -1.0},
            {"momentum": 1.0},
            {"clip": 0.0},
            {"sweep_ratios": [0.0]},
            {"batch": "many"},
        ),
        needs_truth=False,
        learning_task="cooccurrence?common=3&own=3&context=16&items=64",
        family=Laboratory(
            task="cooccurrence?common=3&own=3&context=16&items=16",
            model="attention-decoder?vocabulary=13",
            drawn=(CooccurrenceTask, "batch", lambda task, size, rng: size),
            misfitting=("attention-decoder?vocabulary=34", "vocabulary"),
            unknown=(("--task", "cooccurence"), ("--model", "attention-decodr")),
            least_gain=1.0,
        ),
    ),
    "icl-gd": Smallest(
        fields={"steps": 8, "batch": 32, "problems": 64, "snapshots": 3},
        learning={"steps": 400, "batch": 2048, "problems": 500, "snapshots": 3},
        refused=({"steps": 0}, {"batch": 0}, {"learning_rate": -1.0}, {"clip": 0.0}, {"problems": "many"}),
        needs_truth=False,
        learning_task="in-context-regression?items=1000",
        family=Laboratory(
            task="in-context-regression?items=64",
            model="linear-attention",
            drawn=(InContextRegression, "batch", lambda task, size, rng: size),
            misfitting=("linear-attention?dimensions=4", "width"),
            unknown=(("--task", "in-context-regresion"), ("--model", "linear-atention")),
            least_gain=0.1,
        ),
    ),
    "one-step-gd": Smallest(
        fields={"steps": 8, "batch": 32, "problems": 64, "snapshots": 3, "restarts": 2},
        learning={"steps": 300, "batch": 256, "problems": 500, "snapshots": 3},
        refused=({"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"restarts": 0}, {"problems": "many"}),
        needs_truth=False,
        learning_task="in-context-regression?inputs=gaussian&dimensions=5&context=20&items=1000",
        family=Laboratory(
            task="in-context-regression?inputs=gaussian&dimensions=5&context=20&items=64",
            model="bilinear-attention",
            drawn=(InContextRegression, "batch", lambda task, size, rng: size),
            misfitting=("bilinear-attention?dimensions=4", "width"),
            unknown=(("--task", "in-context-regresion"), ("--model", "bilinear-atention")),
            least_gain=1.0,
        ),
    ),
    "gpicl": Smallest(
        fields={
            "steps": 8,
            "batch": 8,
            "looks": 2,
            "items": 32,
            "map_tasks": [4],
            "map_widths": [8],
            "map_steps": 4,
        },
        learning={
            "steps": 400,
            "warmup": 50,
            "learning_rate": 3e-3,
            "looks": 2,
            "map_tasks": [],
            "map_widths": [],
        },
        refused=(
            {"steps": 0},
            {"epsilon": 0.0},
            {"curriculum": "labels"},
            {"map_tasks": [4], "map_widths": []},
            {"batch": "many"},
        ),
        needs_truth=False,
        learning_task="projected-images?base=clusters&labels=0,1&classes=2&inputs=8&context=8&bias=0",
        family=Laboratory(
            task="projected-images?base=clusters&labels=0,1&classes=2&inputs=8&context=8&bias=0&items=64",
            model="sequence-transformer?inputs=8&classes=2&layers=2&width=32&positions=9",
            drawn=(ProjectedImages, "batch", lambda task, size, rng, **grown: size),
            misfitting=("sequence-transformer?inputs=8&classes=2&positions=8", "positions"),
            unknown=(("--task", "projected-image"), ("--model", "sequence-transformr")),
            least_gain=0.1,
        ),
    ),
    "self-sorting": Smallest(
        fields={"arrays": 4, "frozen": [0, 2], "levels": 4, "conflict_rounds": 20, "frames": 5},
        learning={"arrays": 10, "frozen": [3]},
        refused=(
            {"arrays": 0},
            {"frozen": []},
            {"frozen": [-1]},
            {"mixtures": [1.0]},
            {"scheduler": "threads"},
        ),
        needs_truth=False,
        learning_task="arrays",
        family=Laboratory(
            task="arrays?length=16&arrays=12&frozen=2",
            model="top-down-bubble",
            drawn=(ArraysTask, "batch", lambda task, size, rng, **levels: size),
            misfitting=("linear-attention", "sorting algorithm"),
            unknown=(("--task", "arays"), ("--model", "top-down-buble")),
            least_gain=1.0,
        ),
    ),
    "barlow-twins": Smallest(
        fields={"projector": [16, 16], "pretraining": {"epochs": 2, "batch": 32}},
        learning={"pretraining": {"epochs": 15, "batch": 64}},
        refused=(
            {"redundancy_weight": 0.0},
            {"projector": []},
            {"views": {"flip": 2.0}},
            {"pretraining": {"batch": 1}},
            {"pretraining": {"epochs": 0}},
            {"loss_scale": "large"},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits("conv?first=4&stages=2", _PRETRAINED),
    ),
    "self-distilled-pretraining": Smallest(
        fields={"pretraining": {"steps": 4, "batch": 16}},
        learning={
            "pretraining": {"steps": 60, "batch": 32, "learning_rate": 3e-3},
            "result": "classifier",
            "tuning": {"steps": 150, "batch": 30, "learning_rate": 1e-2, "views": {"flip": 0.0}},
            "views": {"flip": 0.0},
        },
        refused=(
            {"rounds": -1},
            {"weight": -1.0},
            {"mask_ratio": 1.0},
            {"pooling": "middle"},
            {"pretraining": {"steps": 0}},
            {"pretraining": {"batch": "many"}},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits(
            "mae?patch=2&hidden=16&layers=2&heads=2&decoder_hidden=8&features=mean",
            _drawn(further_pretraining),
        ),
    ),
    "mixed-barlow-twins": Smallest(
        fields={
            "projector": [16, 16],
            "pretraining": {"epochs": 2, "batch": 32},
            "probing": {"every": 1, "items": 40},
        },
        learning={"pretraining": {"epochs": 15, "batch": 64}},
        refused=(
            {"mix": {"weight": -1.0}},
            {"mix": {"beta": [0.0, 1.0]}},
            {"mix": {"target_b": "uu"}},
            {"probing": {"items": 0}},
            {"pretraining": {"batch": 1}},
            {"projector": []},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits("conv?first=4&stages=2", _PRETRAINED),
    ),
    "isogclr": Smallest(
        fields={"projector": [16, 16], "pretraining": {"epochs": 2, "batch": 32}},
        learning={"pretraining": {"epochs": 15, "batch": 64, "learning_rate": 2e-3}},
        refused=(
            {"objective": "clip"},
            {"temperature": 0.0},
            {"individual": {"rho": 5.0}},
            {"pretraining": {"batch": 2}},
            {"queue": -1},
            {"centred": "much"},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits("conv?first=4&stages=2", _PRETRAINED),
    ),
    "t-jepa": Smallest(
        fields={
            "predictor_layers": 1,
            "probing": {"every": 1, "items": 40},
            "pretraining": {"epochs": 2, "batch": 32, "warmup_epochs": 0},
        },
        learning={
            "predictor_heads": 2,
            "teacher_keep": 0.97,
            "probing": {"every": 0, "keep": "last"},
            "pretraining": {"epochs": 60, "batch": 32, "learning_rate": 1e-2},
        },
        refused=(
            {"masks": {"targets": 0}},
            {"masks": {"context": [0.6, 0.7], "target": [0.5, 0.6]}},
            {"predictor_heads": 3},
            {"teacher_keep": 1.5},
            {"head": {"patience": 0}},
            {"pretraining": {"batch": "many"}},
        ),
        needs_truth=False,
        learning_task="wine?label=&transductive=true",
        family=Laboratory(
            task="wine?labels=20&train=100",
            model="tabular-transformer?width=16&layers=1&heads=2&hidden=32",
            drawn=_PRETRAINED,
            misfitting=("tabular-transformer?width=16&layers=1&heads=2", "columns"),
            fitted_to="breast-cancer",
            unknown=(("--task", "wines"), ("--model", "tabular-transforme")),
            least_gain=0.01,
            wrong=wrong_rows,
        ),
    ),
    "sla": Smallest(
        fields={"training": {"steps": 6, "batch": 8}},
        learning={"training": {"steps": 200, "batch": 20, "learning_rate": 0.1, "views": {"flip": 0.0}}},
        refused=(
            {"objective": "slap"},
            {"transformations": "rotatoin"},
            {"temperature": 0.0},
            {"training": {"held_out": 1.0}},
            {"training": {"steps": 0}},
            {"training": {"batch": "many"}},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits("conv?first=8", _drawn(supervised)),
    ),
    "lion": Smallest(
        fields={"training": {"steps": 6, "batch": 8}},
        learning={"training": {"steps": 300, "batch": 20, "learning_rate": 2e-3, "views": {"flip": 0.0}}},
        refused=(
            {"rule": "tiger"},
            {"training": {"optimizer": "lions"}},
            {"training": {"betas": (0.9, 1.0)}},
            {"training": {"steps": 0}},
            {"search": {"budget": 0}},
            {"search": {"warm_start": "adamx"}},
            {"search": {"funnel": (0,)}},
        ),
        needs_truth=False,
        learning_task="digits?labels=300",
        family=_digits("mlp?hidden=16", _drawn(supervised)),
    ),
    "pruning-distillation": Smallest(
        fields={
            "fraction": 0.5,
            "pruner": "el2n",
            "scoring": {"steps": 4, "batch": 8},
            "teaching": {"steps": 40, "batch": 16, "views": {"flip": 0.0}},
            "training": {"steps": 6, "batch": 8},
        },
        learning={
            "fraction": 0.5,
            "teaching": {"steps": 300, "batch": 32, "views": {"flip": 0.0}},
            "training": {"steps": 300, "batch": 32, "views": {"flip": 0.0}},
        },
        refused=(
            {"fraction": 0.0},
            {"pruner": "el2m"},
            {"alpha": 1.5},
            {"temperature": 0.0},
            {"teachers": 0},
            {"choose_alpha": "guess"},
            {"training": {"steps": 0}},
            {"curve": (0.5, 2.0)},
        ),
        needs_truth=False,
        learning_task="digits?labels=100",
        family=_digits("conv?first=8", _drawn(supervised), labels=40),
    ),
    "ps-kd": Smallest(
        fields={"training": {"steps": 9, "batch": 8}},
        learning={"training": {"steps": 200, "batch": 20, "learning_rate": 0.1, "views": {"flip": 0.0}}},
        refused=(
            {"alpha": 1.5},
            {"smoothing": 1.0},
            {"storage": "dens"},
            {"shape": "cubic"},
            {"top": 0},
            {"training": {"steps": 0}},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits("conv?first=8", _drawn(supervised)),
    ),
    "guided-self-distillation": Smallest(
        fields={"training": {"steps": 4, "batch": 8}},
        learning={"training": {"steps": 200, "batch": 20, "learning_rate": 0.1, "views": {"flip": 0.0}}},
        refused=(
            {"steps": 0},
            {"label_weight": 1.5},
            {"held_out": 0.0},
            {"lam": 0.0},
            {"rank": -1},
            {"loss_space": "softmax"},
        ),
        needs_truth=False,
        learning_task="digits?labels=80",
        family=_digits("conv?first=8", _drawn(supervised)),
    ),
    "efficient-train": Smallest(
        fields={"bands": [4, 4, 6, 6, 8], "average": 0.5, "training": {"steps": 10, "batch": 8}},
        learning={
            "bands": [6, 6, 8, 8, 8],
            "augmentation": {"operations": 0},
            "training": {
                "steps": 300,
                "batch": 20,
                "optimizer": "sgd",
                "learning_rate": 0.1,
                "weight_decay": 1e-4,
                "views": {"flip": 0.0},
            },
        },
        refused=(
            {"curriculum": "bth"},
            {"bands": [4, 8]},
            {"magnitudes": [1.0, 3.0, 5.0, 7.0, 11.0]},
            {"smoothing": 1.0},
            {"search_steps": -1},
            {"augmentation": {"probability": 2.0}},
            {"training": {"steps": 0}},
        ),
        needs_truth=False,
        learning_task="digits?labels=60",
        family=_digits("conv?first=8", _drawn(supervised)),
    ),
    "algoperf": Smallest(
        fields={
            "submissions": ("adamw", "lion"),
            "target": 0.85,
            "studies": 1,
            "trials": 2,
            "steps": 6,
            "batch": 8,
            "looks": 3,
        },
        learning={
            "submissions": ("adamw", "nesterov"),
            "target": 0.02,
            "studies": 1,
            "trials": 4,
            "steps": 150,
            "batch": 32,
            "looks": 5,
        },
        refused=(
            {"submissions": ("adamv",)},
            {"submissions": ("adamw", "adamw")},
            {"target": 1.0},
            {"looks": 1000},
            {"ruleset": "external-tuning"},
            {"studies": "many"},
        ),
        needs_truth=False,
        learning_task="digits?labels=800",
        family=_digits("conv?first=8", _drawn(workloads)),
    ),
    "pseudo-label-pretraining": Smallest(
        fields={
            "teaching": {"steps": 120, "batch": 16, "learning_rate": 1e-2},
            "pretraining": {"steps": 6, "batch": 16},
            "tuning": {"steps": 4, "batch": 16},
        },
        learning={
            "teaching": {"steps": 200, "batch": 32, "learning_rate": 1e-2},
            "pretraining": {"steps": 100, "batch": 32, "learning_rate": 1e-2},
            "tuning": {"steps": 60, "batch": 32, "learning_rate": 2e-3},
        },
        refused=(
            {"recipe": "methods"},
            {"rounds": 0},
            {"tau": -1.0},
            {"held_out": 1.0},
            {"teaching": {"steps": -1}},
            {"adaptation": {"batch": 0}},
            {"pretraining": {"batch": "many"}},
        ),
        needs_truth=False,
        learning_task="pool:digits?labels=100",
        family=Laboratory(
            task="pool:digits?labels=50&train=100&test=40",
            model="conv?first=8",
            drawn=_drawn(stages),
            misfitting=("conv?channels=3&size=32", "channels"),
            unknown=(("--task", "pools:digits"), ("--model", "convv")),
            least_gain=0.02,
            wrong=wrong_items,
        ),
    ),
    "hast": Smallest(
        fields={"queries": 2, "batch": 4, "adapter": {"pairs": 64, "adapted": 16}},
        learning={"queries": 6, "batch": 10},
        refused=(
            {"batch": 0},
            {"query": "boldest"},
            {"pseudo": {"selector": "hasty"}},
            {"pseudo": {"vote": 2.0}},
            {"adapter": {"pairs": 0}},
            {"subsample": "many"},
        ),
        needs_truth=False,
        may_ask=True,
        learning_task="pool:digits?labels=20",
        family=Laboratory(
            task="pool:digits?labels=20&train=120&test=40",
            model="flat",
            drawn=(
                pool_learners,
                "tune_adapter",
                lambda start, features, labels, *settings, pairs, **more: 2 * pairs + len(labels),
            ),
            misfitting=("flat?width=5", "width"),
            unknown=(("--task", "pools:digits"), ("--model", "flatt")),
            least_gain=0.02,
            wrong=wrong_items,
        ),
    ),
    "aspl": Smallest(
        fields={"rounds": 2, "query": 4, "confirm": 2, "pacing": {"growth": 0.3, "alternations": 2}},
        learning={"rounds": 6, "query": 10},
        refused=(
            {"rounds": -1},
            {"query": -1},
            {"components": 0},
            {"arm": "apsl"},
            {"pacing": {"penalty": 0.0}},
            {"pacing": {"age": -1.0}},
            {"tuning": {"batch": 0}},
            {"confirm": "many"},
        ),
        needs_truth=False,
        may_ask=True,
        seedless=True,
        learning_task="pool:digits?labels=20",
        family=Laboratory(
            task="pool:digits?labels=20&train=120&test=40",
            model="flat",
            drawn=(self_paced, "weighted_svm", lambda features, signs, weights, **settings: len(features)),
            misfitting=("flat?width=5", "width"),
            unknown=(("--task", "pools:digits"), ("--model", "flatt")),
            least_gain=0.02,
            wrong=wrong_items,
        ),
    ),
    "web-noise": Smallest(
        fields={"simclr": False, "training": {"epochs": 3, "batch": 32}, "detection": {"least_noisy": 5}},
        learning={
            "simclr": False,
            "training": {"epochs": 30, "batch": 32, "warmup_epochs": 5, "learning_rate": 0.2},
            "weak": {"flip": 0.0},
            "strong": {"flip": 0.0},
            "hard": {"flip": 0.0},
        },
        refused=(
            {"detection": {"detectors": ["los"]}},
            {"detection": {"sure": 1.0}},
            {"training": {"epochs": 0}},
            {"training": {"gamma": 0.0}},
            {"projection": 0},
            {"hidden": []},
            {"training": {"batch": "many"}},
        ),
        needs_truth=False,
        learning_task="noisy:digits?rate=0.3&outside=0",
        family=Laboratory(
            task="noisy:digits?train=100&test=40",
            model="conv?first=4&stages=2",
            drawn=(noisy_labels, "epoch_batch", lambda key, epoch, place, count, batch: batch),
            misfitting=("conv?channels=3&size=32", "channels"),
            unknown=(("--task", "noisi:digits"), ("--model", "convv")),
            least_gain=0.02,
            wrong=wrong_items,
        ),
    ),
    "loki": Smallest(
        fields={
            "probabilities": "mlp",
            "hidden": 8,
            "training": {"steps": 6, "batch": 8},
            "tuning": {"steps": 4, "batch": 8},
        },
        learning={"probabilities": "mlp"},
        refused=(
            {"probabilities": "gues"},
            {"exponent": 3},
            {"temperature": 0.0},
            {"prompt": "a photo"},
            {"tuning": {"steps": -1}},
            {"training": {"batch": "many"}},
        ),
        needs_truth=False,
        learning_task="rotated-digits?train=60&test=1000",
        family=Laboratory(
            task="rotated-digits?train=10&test=200",
            model="flat",
            drawn=_drawn(stages),
            misfitting=("flat?width=5", "numbers"),
            unknown=(("--task", "rotated-digit"), ("--model", "flatt")),
            least_gain=1.0,
            wrong=wrong_items,
        ),
    ),
    "transductive-clustering": Smallest(
        fields={"halves": 2, "joint": {"rounds": 4}},
        learning={"halves": 1},
        refused=(
            {"halves": -1},
            {"joint": {"smoothness": -0.5}},
            {"joint": {"sharpness": 0.0}},
            {"joint": {"distance": "cosine"}},
            {"joint": {"symmetric": False, "psd": True}},
            {"joint": {"rounds": "many"}},
        ),
        needs_truth=False,
        learning_task="pool:digits?labels=20",
        family=Laboratory(
            task="pool:digits?labels=20&train=100&test=40",
            model="flat",
            drawn=(
                transduction,
                "one_round",
                lambda queries, prototypes, *rest: prototypes.shape[:-2].numel() * queries.shape[-2],
            ),
            misfitting=("flat?width=5", "numbers"),
            unknown=(("--task", "poool:digits"), ("--model", "flatt")),
            least_gain=0.05,
            wrong=wrong_items,
        ),
    ),
    "learning-curves": Smallest(
        fields={"kernel": 200, "step": 200, "look_ahead": 1, "judged": 150},
        learning={"kernel": 500, "step": 500},
        refused=(
            {"kernel": 0},
            {"tau": 0.0},
            {"nu": 2.0},
            {"look_ahead": 0},
            {"training": {"steps": 0}},
            {"judged": "many"},
        ),
        needs_truth=False,
        learning_task="made-tags?train=5000&validation=500&test=2000",
        family=Laboratory(
            task="made-tags?train=1200&validation=200&test=200&tags=6",
            model="perceptron-tagger?bits=10&passes=1",
            drawn=(PerceptronTagger, "learn", lambda tagger, texts, key: tagger.passes * texts.words),
            misfitting=("perceptron-tagger", "tags"),
            fitted_to="made-tags?train=50&validation=10&test=10&tags=3",
            unknown=(("--task", "made-tag"), ("--model", "perceptron-taggr")),
            least_gain=0.1,
            wrong=wrong_items,
        ),
    ),
    "gcool": Smallest(
        fields={"epochs": 6, "projection": 8},
        learning={"epochs": 60, "projection": 16, "temperature": 0.5},
        refused=(
            {"epochs": 0},
            {"communities": -1},
            {"communities": 1},
            {"temperature": 0.0},
            {"similarity": "dot"},
            {"views": {"edges": 1.5}},
            {"anchors": "many"},
        ),
        needs_truth=False,
        learning_task="blocks",
        family=Laboratory(
            task="blocks?nodes=60",
            model="gcn?hidden=16&width=8",
            drawn=(gcool, "node_contrast", lambda first, *views, **options: len(first)),
            misfitting=("gcn?inputs=5&relations=1", "features"),
            unknown=(("--task", "block"), ("--model", "gcnn")),
            least_gain=0.05,
            wrong=wrong_nodes,
        ),
    ),
    "infinite-lr": Smallest(
        fields={
            "training": {"steps": 5, "batch": 4, "context": 16},
            "schedule": {"warmup": 0.2, "cooldown": 0.4, "decay_start": 0.6},
        },
        learning={"training": {"steps": 20, "batch": 8, "context": 32}},
        refused=(
            {"training": {"steps": 0}},
            {"training": {"replay": 1.5}},
            {"training": {"against": "habit"}},
            {"schedule": {"floor": 0.0}},
            {"schedule": {"cooldown": 0.9}},
            {"schedule": {"name": "infinit"}},
            {"schedule": {"peak": "high"}},
            {"start": "runs/nowhere"},
        ),
        needs_truth=False,
        learning_task="made-domains?size=20000&excerpt=64&items=10",
        family=Laboratory(
            task="made-domains?size=2000&excerpt=24&items=4",
            model="byte-lm?layers=1&width=32&context=64",
            drawn=(stream_batches.Windows, "batch", lambda windows, run, task, n, settings: settings.batch),
            misfitting=("byte-lm?layers=1&width=16&context=8", "context"),
            unknown=(("--task", "made-domain"), ("--model", "byte-ml")),
            least_gain=1.0,
        ),
    ),
}


def smallest(slug: str) -> Smallest:
    """Return a method's settings; fails with what to add where there are none."""
    assert slug in SMALLEST, (
        f"{slug!r} is in the index of methods, but SMALLEST in tests/contract/smallest.py does not have it. "
        f"Add SMALLEST[{slug!r}] = Smallest(fields=..., learning=..., refused=...): fields with which a fit "
        "takes a second, fields with which it learns, and values that it must refuse."
    )
    assert slug in METHODS, f"{slug!r} is no longer in the index of methods: remove it from SMALLEST."
    return SMALLEST[slug]
