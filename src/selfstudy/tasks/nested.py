"""Tasks with a part of their labelled data: the nested samples of a learning curve."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import UNKNOWN
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.pools import PoolTask
from selfstudy.tasks.table_task import Labelled, TableTask
from selfstudy.tasks.tagging import TaggingTask

AnyTask = TypeVar("AnyTask")


def item_sizes(task: Any) -> np.ndarray:
    """Return the units [N] of each labelled item: words of a sentence, else 1.

    Raises:
        UsageError: a task whose labelled items are not known here, or none of them.
    """
    if isinstance(task, TaggingTask):
        return task.train.lengths
    if isinstance(task, ImageTask | PoolTask):
        return np.ones(len(task.labelled), dtype=np.int64)
    if isinstance(task, TableTask) and task.labelled is not None:
        return np.ones(len(task.labelled.table), dtype=np.int64)
    raise UsageError(
        f"The task {getattr(task, 'name', task)!r} has no labelled items to take a part of. A learning curve "
        "needs labelled sentences, images, texts, vectors or rows."
    )


def with_labelled(task: AnyTask, places: np.ndarray) -> AnyTask:
    """Return the task with the labelled items at `places` alone, in that order; the rest is as it was.

    Args:
        task: of tagged sentences, images, a pool or a table.
        places: [n], among the labelled items.
    """
    bound: Any = copy.copy(task)
    if isinstance(task, TaggingTask):
        bound.train = task.train.only(places)
    elif isinstance(task, ImageTask):
        bound.labelled = task.labelled.only(places)
    elif isinstance(task, PoolTask):
        bound.given = np.full_like(task.given, UNKNOWN)
        kept = task.labelled[places]
        bound.given[kept] = task.given[kept]
    elif isinstance(task, TableTask) and task.labelled is not None:
        table, answers = task.labelled
        bound.labelled = Labelled(table.only(places), answers.only(places))
    return bound
