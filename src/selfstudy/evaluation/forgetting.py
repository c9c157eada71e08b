"""What a model keeps of a stream of tasks: the loss matrix, forgetting and adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfstudy.evaluation.pictures import Picture, heatmap, line, picture


@dataclass(frozen=True)
class LossMatrix:
    """The held-out loss on every task after each.

    Attributes:
        losses: L[i, j] on task j after task i, [T, T].
    """

    losses: np.ndarray

    @property
    def final_average(self) -> float:
        """The mean over tasks after the last."""
        return float(self.losses[-1].mean())

    @property
    def forgetting(self) -> list[float]:
        """L[T, j] - min over i < T of L[i, j]: how far each task is above its best before the last one.

        >>> LossMatrix(np.array([[1.0, 3.0], [2.0, 1.5]])).forgetting
        [1.0, -1.5]
        """
        before = self.losses[:-1] if len(self.losses) > 1 else self.losses
        return [float(value) for value in self.losses[-1] - before.min(axis=0)]

    @property
    def adaptation(self) -> list[float]:
        """L[j, j]: the loss on each task right after it."""
        return [float(value) for value in np.diagonal(self.losses)]

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        """Return all of it as plain values, by the names of the tasks."""
        return {
            "final_average": self.final_average,
            "forgetting": dict(zip(names, self.forgetting, strict=True)),
            "adaptation": dict(zip(names, self.adaptation, strict=True)),
            "losses": self.losses.tolist(),
        }

    def pictures(self, names: Sequence[str], unit: str) -> list[Picture]:
        """Return the matrix as a map, and a line for each task over the stream."""
        after = [f"after {name}" for name in names]
        shown = [[f"{value:.3f}" for value in row] for row in self.losses]
        cells = heatmap(
            self.losses, list(names), after, text=shown, texttemplate="%{text}", colorscale="Viridis"
        )
        lines = [line(name, after, self.losses[:, j], mode="lines+markers") for j, name in enumerate(names)]
        return [
            picture(
                "What is kept of each domain",
                lines,
                y=unit,
                note="Held-out loss, lower is better. A line that rises after its own domain is forgetting.",
                layout={"xaxis": {"type": "category"}},
            ),
            picture(
                "Loss matrix",
                [cells],
                x="on",
                note=f"In {unit}: each row is a model, each column a domain.",
                layout={"yaxis": {"autorange": "reversed"}},
            ),
        ]
