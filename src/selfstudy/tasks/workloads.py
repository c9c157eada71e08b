"""Workloads by name: small problems with frozen targets that training algorithms compete on.

After AlgoPerf (Dahl et al. 2023, arXiv 2306.07179), each with variants that change one detail a practitioner
might change. Targets are in `workload_targets.json`, with the seed and the settings that they were found by:
`selfstudy bench targets` sets them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError, nearest
from selfstudy.core.files import read_json
from selfstudy.learning.workloads import TensorWorkload
from selfstudy.models.workload_networks import (
    CharacterDecoder,
    HashedTable,
    NodeConvolutions,
    WordLstm,
    convolutions,
    drawn,
    perceptron,
)
from selfstudy.tasks.workload_data import (
    BUCKETS,
    CHARACTERS,
    WINDOW,
    WORDS,
    Splits,
    adult_examples,
    character_examples,
    graph_examples,
    image_examples,
    text_examples,
)

TARGETS = "workload_targets.json"
SIDE = 14  # pixels of the clothes
Make = Callable[[], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a workload is made.

    Attributes:
        build: from changed details to the examples and a maker of untrained networks.
        variants: what each variant changes, by name.
        step_hint: steps that training may take.
        batch: examples of a step.
        loss: whether the metric is the loss; else it is the share told wrong.
    """

    build: Callable[..., tuple[Splits, Make]]
    variants: dict[str, dict[str, Any]]
    step_hint: int
    batch: int = 64
    loss: bool = False


def _digits(**changed: Any) -> tuple[Splits, Make]:
    splits = image_examples("digits", 800, 8)
    return splits, partial(perceptron, 64, 10, **changed)


def _clothes(**changed: Any) -> tuple[Splits, Make]:
    splits = image_examples("fashion-mnist", 2000, SIDE)
    return splits, partial(convolutions, 1, 10, **changed)


def _incomes(**changed: Any) -> tuple[Splits, Make]:
    splits = adult_examples(4000)
    rows = splits["train"].inputs
    buckets = int((rows.frac() == 0).all(0).sum())  # columns of whole numbers
    return splits, partial(HashedTable, rows.shape[1] - buckets, buckets, BUCKETS, 2, **changed)


def _questions(**changed: Any) -> tuple[Splits, Make]:
    splits = text_examples("trec")
    classes = int(splits["train"].targets.max()) + 1
    return splits, partial(WordLstm, WORDS, classes, **changed)


def _characters(**changed: Any) -> tuple[Splits, Make]:
    return character_examples(), partial(CharacterDecoder, CHARACTERS, WINDOW, **changed)


def _papers(**changed: Any) -> tuple[Splits, Make]:
    splits, features, adjacency = graph_examples("cora")
    classes = int(splits["test"].targets.max()) + 1
    return splits, partial(NodeConvolutions, features, adjacency, classes, **changed)


TANH = {"activation": "tanh"}
RECIPES: dict[str, Recipe] = {
    "digits-mlp": Recipe(
        build=_digits,
        variants={"tanh": TANH, "no-norm": {"normalised": False}, "wide": {"width": 128}},
        step_hint=300,
    ),
    "fashion-conv": Recipe(
        build=_clothes,
        variants={"tanh": TANH, "no-norm": {"normalised": False}, "wide": {"first": 16}},
        step_hint=300,
        batch=32,
    ),
    "adult-mlp": Recipe(
        build=_incomes,
        variants={"tanh": TANH, "no-norm": {"normalised": False}, "wide": {"width": 128}},
        step_hint=300,
    ),
    "trec-lstm": Recipe(
        build=_questions, variants={"deep": {"layers": 2}, "wide": {"width": 64}}, step_hint=400
    ),
    "wikitext-gpt": Recipe(
        build=_characters,
        variants={"post-norm": {"pre_norm": False}, "relu": {"activation": "relu"}, "wide": {"width": 128}},
        step_hint=200,
        batch=16,
        loss=True,
    ),
    "cora-gcn": Recipe(
        build=_papers, variants={"tanh": TANH, "wide": {"width": 64}}, step_hint=100, batch=271
    ),
}
VARIANTS = {name: [f"{name}-{variant}" for variant in recipe.variants] for name, recipe in RECIPES.items()}


def workload(name: str, *, target: float | None = None) -> TensorWorkload:
    """Return a workload or a variant by name, such as "digits-mlp" or "digits-mlp-tanh".

    Args:
        name: of `RECIPES`, or of `VARIANTS`.
        target: of the validation metric; None is the frozen one.

    Raises:
        UsageError: no such workload.
        DataError: its data are not on this machine, or it has no frozen target yet.
    """
    base = next((base for base in RECIPES if name == base or name in VARIANTS[base]), None)
    if base is None:
        known = [*RECIPES, *(variant for each in VARIANTS.values() for variant in each)]
        raise UsageError(f"There is no workload {name!r}. {nearest(name, known)}")
    recipe = RECIPES[base]
    changed = recipe.variants[name.removeprefix(f"{base}-")] if name != base else {}
    splits, make = recipe.build(**changed)
    if target is None:
        targets = frozen_targets()
        if name not in targets:
            raise DataError(
                f"The workload {name!r} has no target yet. Set one by: selfstudy bench targets {name}"
            )
        target = targets[name]["validation"]

    def measure(model: nn.Module, split: str) -> float:
        with torch.inference_mode():
            scores = model(splits[split].inputs)
        targets = splits[split].targets
        if recipe.loss:
            return float(functional.cross_entropy(scores.flatten(0, -2), targets.flatten()))
        return float((scores.argmax(-1) != targets).float().mean())

    return TensorWorkload(
        name=name,
        inputs=splits["train"].inputs,
        targets=splits["train"].targets,
        network=lambda key: drawn(key, make),
        measure=measure,
        target=target,
        step_hint=recipe.step_hint,
        batch=recipe.batch,
    )


def frozen_targets() -> dict[str, dict[str, Any]]:
    """Return the targets that are kept with the package, and how they were found, by workload."""
    path = files("selfstudy.tasks") / TARGETS
    return read_json(path) if path.is_file() else {}  # type: ignore[arg-type]
