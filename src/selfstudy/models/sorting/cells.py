"""The cell view of a sorting algorithm: a model that sorts many arrays, whose cells act for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.core.machine import cores
from selfstudy.core.random import derive
from selfstudy.data.arrays import Arrays
from selfstudy.models.sorting.one_array import (
    DIRECTIONS,
    POLICIES,
    SCHEDULERS,
    SelfSortingArray,
    known_word,
    most_activations,
    run_cells,
)
from selfstudy.models.sorting.policies import Policy
from selfstudy.models.sorting.traces import Trace

CONFIG = "config.json"


class Cells:
    """The cell view of an algorithm: arrays whose cells all follow one policy.

    Args:
        policy: "bubble", "insertion", "selection", or a callable (`policies.Policy`), which cannot be saved.
        scheduler: "rounds" or "uniform".
        seed: of the schedules, together with each array's own key.
        max_steps: activations after which a run is cut off; 0 is `most_activations(n)`.
    """

    def __init__(
        self, policy: str | Policy, *, scheduler: str = "rounds", seed: int = 0, max_steps: int = 0
    ) -> None:
        self.policy = known_word("policy", policy, POLICIES)
        self.scheduler = known_word("scheduler", scheduler, SCHEDULERS)
        self.seed, self.max_steps = seed, max_steps

    @property
    def name(self) -> str:
        """The policy and its schedule, in words."""
        policy = self.policy if isinstance(self.policy, str) else getattr(self.policy, "__name__", "policy")
        return f"{policy} cells, {self.scheduler}, seed {self.seed}"

    def schedules(self, arrays: Arrays) -> np.ndarray:
        """Return the key of each array's schedule, [B] uint64."""
        return derive(arrays.schedules, self.seed % 2**64)

    def sort(self, arrays: Arrays, *, threads: int | None = None) -> list[Trace]:
        """Return one trace for each array; see `sort_mixed`."""
        return sort_mixed(self, arrays, [self.policy], threads=threads)

    def copy(self) -> Cells:
        """Return an equal model."""
        return Cells(self.policy, scheduler=self.scheduler, seed=self.seed, max_steps=self.max_steps)

    def save(self, folder: Path) -> None:
        """Write the settings.

        Raises:
            UsageError: the policy is a callable.
        """
        if not isinstance(self.policy, str):
            raise UsageError("A policy that is Python code cannot be saved. Keep its source and its traces.")
        Path(folder).mkdir(parents=True, exist_ok=True)
        settings = {"policy": self.policy, "scheduler": self.scheduler}
        write_json(Path(folder) / CONFIG, {**settings, "seed": self.seed, "max_steps": self.max_steps})

    @classmethod
    def load(cls, folder: Path) -> Cells:
        """Read what `save` wrote."""
        settings = read_json(Path(folder) / CONFIG)
        if "policy" not in settings:
            raise MachineError(f"{folder} holds no cells: its {CONFIG} names no policy.")
        return cls(settings.pop("policy"), **settings)


def sort_mixed(
    cells: Cells,
    arrays: Arrays,
    policies: Sequence[str | Policy],
    *,
    labels: np.ndarray | None = None,
    falling: np.ndarray | None = None,
    threads: int | None = None,
) -> list[Trace]:
    """Run arrays whose cells follow different policies, under the schedule of `cells`.

    Args:
        cells: whose scheduler, seed and limit are taken.
        arrays: B of them.
        policies: one for each label.
        labels: [B, n] which policy a cell follows; 0 where none are given. With a single policy labels mean
            nothing to the cells, and still name the types of the trace: that is the control.
        falling: [B, n] which cells sort in decreasing order.
        threads: that work at once; None is one a core. It changes no result.
    """
    count, n = arrays.values.shape
    labels = np.zeros((count, n), np.int8) if labels is None else labels
    falling = np.zeros((count, n), bool) if falling is None else falling
    policy_of = labels if len(policies) > 1 else np.zeros((count, n), np.int8)
    settings: dict[str, Any] = {
        "movable": arrays.mode == "movable",
        "uniform": cells.scheduler == "uniform",
        "width": arrays.width,
        "most": cells.max_steps or most_activations(n),
    }
    keys, frozen = cells.schedules(arrays).tolist(), arrays.frozen

    def one(i: int) -> Trace:
        if all(isinstance(policy, str) for policy in policies):
            numbers = np.array([POLICIES.index(policy) for policy in policies], np.int8)
            kinds = numbers[policy_of[i]]
            return run_cells(
                arrays.values[i], kinds, falling[i], frozen[i], types=labels[i], key=keys[i], **settings
            )
        array = SelfSortingArray(
            arrays.values[i],
            [policies[label] for label in policy_of[i]],
            frozen=np.flatnonzero(frozen[i]),
            mode=arrays.mode,
            direction=[DIRECTIONS[int(falls)] for falls in falling[i]],
            scheduler=cells.scheduler,
            width=arrays.width,
            seed=keys[i],
        )
        return array.run(settings["most"])

    threads = threads or cores()
    if threads == 1:
        return [one(i) for i in range(count)]
    with ThreadPoolExecutor(threads) as pool:  # compiled cells let go of the interpreter
        return list(pool.map(one, range(count)))
