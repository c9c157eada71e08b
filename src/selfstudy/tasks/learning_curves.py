"""Learning curves of any method: how well it does on nested parts of a task's labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Method
from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.tasks.nested import item_sizes, with_labelled


class LearningCurve(NamedTuple):
    """What a method reaches on growing samples.

    Attributes:
        seeds: S, each with its own order of the items.
        units: [S, L], words or items of each sample.
        figures: [S, L], means of the task's metric.
    """

    seeds: tuple[int, ...]
    units: np.ndarray
    figures: np.ndarray


def learning_curve(
    task: Any,
    method: Method | None,
    model: Any,
    sizes: Sequence[int],
    seeds: Sequence[int],
    *,
    out: str | Path,
    split: str = "validation",
) -> LearningCurve:
    """Fit `method` on nested samples and return how well it does on each; goes on where it was cut off.

        curve = learning_curve(task, Sla(), task.prepared(model), [100, 200, 400, 800], range(3), out="curve")

    Each seed has one order of the labelled items; a sample is the first of them, cut at the end of an item.
    There is one run a sample, in a folder of its own under `out`, and a finished one is read back.

    Args:
        task: of tagged sentences, images, a pool or a table.
        method: what is fitted; None judges the model as it is, an encoder by a probe on the sample's labels.
        model: prepared for the task.
        sizes: units of the samples, rising: words of tagged sentences, else items.
        seeds: of the orders and the fits.
        out: folder of the runs.
        split: judged on; "test" is for after all choices.

    Raises:
        UsageError: sizes that do not rise, or more than there is.
    """
    units = item_sizes(task)
    if not len(sizes) or min(sizes) < 1 or (np.diff(sizes) <= 0).any() or max(sizes) > units.sum():
        raise UsageError(
            f"The sizes {list(sizes)} of a learning curve must rise from 1 or more to {units.sum()}, "
            f"all there is of {task.name!r}."
        )
    rows = []
    for seed in seeds:
        order = generator("learning curve", seed).permutation(len(units))
        ends = np.cumsum(units[order])
        found = []
        for size in sizes:
            items = int(np.searchsorted(ends, size)) + 1
            part = with_labelled(task, order[:items])
            folder = Path(out) / f"seed-{seed}" / f"size-{size}"
            found.append((int(ends[items - 1]), _figure(part, method, model, folder, size, seed, split)))
        rows.append(found)
    table = np.array(rows)
    return LearningCurve(tuple(seeds), table[..., 0].astype(np.int64), table[..., 1])


def _figure(
    task: Any, method: Method | None, model: Any, folder: Path, size: int, seed: int, split: str
) -> float:
    config = {"curve": task.name, "method": repr(method), "model": model.name, "size": size, "split": split}
    with Run(folder, config, seed=seed) as run:

        def work() -> float:
            fitted = model if method is None else method.fit(task.metered(run.meter), model, run).model
            return float(np.mean(task.evaluate(fitted, split=split).values))

        return run.stage("figure", work)
