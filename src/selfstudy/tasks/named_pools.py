"""Pools of built-in sets by name: `pool:digits?labels=20`, `pool:ag-news`."""

from __future__ import annotations

from selfstudy.core.errors import UsageError, nearest
from selfstudy.data.image_sets import SETS, image_splits
from selfstudy.data.text_sets import NAMES, text_splits
from selfstudy.tasks.pools import AnyItems, PoolTask, pool_task


def pool(
    name: str, *, labels: int = 30, draw: int = 0, train: int = 0, test: int = 0, enrolled: int = 0
) -> PoolTask:
    """Return the pool of a set of images or texts.

    Args:
        name: of the set.
        labels: labels given at the start, of each class as many as of the others; 0 is all that there are.
        draw: names which items are drawn and which of them are labelled.
        train: items of the pool, drawn from the training split; 0 is all.
        test: test items, the first ones; 0 is all.
        enrolled: classes that the task knows, the first ones; 0 is all.

    Raises:
        UsageError: no such set, or numbers that it does not have.
        DataError: its files are not on this machine.
    """
    if name not in (*SETS, *NAMES):
        raise UsageError(
            f"There is no pool {name!r}. {nearest(name, [*SETS, *NAMES])} Your own are pool:images:FOLDER, "
            "pool:vectors:FILE and csv:FILE?text=COLUMN&label=COLUMN."
        )
    splits: dict[str, AnyItems] = {**(image_splits(name) if name in SETS else text_splits(name))}
    return pool_task(
        f"pool:{name}", splits, labels=labels, draw=draw, train=train, test=test, enrolled=enrolled
    )
