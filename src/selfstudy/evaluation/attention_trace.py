"""How attention changes in training: figures and compositions, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from selfstudy.core.files import read_json, write_json
from selfstudy.data.cooccurrence import Cooccurrence
from selfstudy.evaluation.attention import (
    attention_composition,
    attention_entropy,
    class_logits,
    common_mass,
    entropy,
    freeze_step,
    order_correlation,
    rank_advantage,
    uniform_entropy,
)
from selfstudy.models.attention_decoder import AttentionDecoder

WATCHED = 4  # classes whose composition is kept, one a last token
FILES = ("figures.json", "compositions.safetensors")


class AttentionTrace:
    """Figures of attention at some steps of a training; a state for checkpoints.

    Attributes:
        rows: one a recorded step, with "step", "common_mass", "entropy", "largest" (mean, mean and maximum
            over classes) and "attention_entropy" (mean over the probe's queries, finite contexts).
        compositions: the composition of watched classes at each recorded step, [W, M] each.
        done: steps of the training so far.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.compositions: list[np.ndarray] = []
        self.done = 0

    def record(self, model: AttentionDecoder, table: Cooccurrence, probe: torch.Tensor, queries: int) -> None:
        """Add a row for the model as it is after `done` steps.

        Args:
            model: is looked at.
            table: the true P(l | m, n), or its estimate.
            probe: [B, T] of ids.
            queries: the last so many positions of each are queries.
        """
        composition = attention_composition(class_logits(model, table), table.probabilities)
        with torch.no_grad():
            weights = model.weigh(probe, queries)
        self.rows.append(
            {
                "step": self.done,
                "common_mass": float(common_mass(composition, table).mean()),
                "entropy": float(entropy(composition).mean()),
                "largest": float(composition.max()),
                "attention_entropy": float(attention_entropy(weights).mean()),
            }
        )
        self.compositions.append(composition[table.watched(WATCHED)])

    def series(self, name: str) -> list[float]:
        """Return one figure of all rows."""
        return [row[name] for row in self.rows]

    def state_dict(self) -> dict[str, Any]:
        """Return plain values and one tensor."""
        kept = torch.from_numpy(np.array(self.compositions, dtype=float))
        return {"rows": list(self.rows), "done": self.done, "compositions": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.rows, self.done = list(state["rows"]), state["done"]
        self.compositions = list(state["compositions"].numpy())


class Dynamics:
    """A training of an attention-decoder: the model at its end, and how its attention changed."""

    def __init__(self, model: AttentionDecoder, trace: AttentionTrace) -> None:
        self.model, self.trace = model, trace

    def save(self, folder: Path) -> None:
        """Write the model and the trace."""
        self.model.save(folder)
        state = self.trace.state_dict()
        safetensors.torch.save_file({"compositions": state.pop("compositions")}, folder / FILES[1])
        write_json(folder / FILES[0], state)

    @classmethod
    def load(cls, folder: Path) -> Dynamics:
        """Read what `save` wrote."""
        trace = AttentionTrace()
        trace.load_state_dict(
            {**read_json(folder / FILES[0]), **safetensors.torch.load_file(folder / FILES[1])}
        )
        return cls(AttentionDecoder.load(folder), trace)

    def figures(self, table: Cooccurrence, length: int, queries: int) -> dict[str, float | int | None]:
        """Return what the training came to, in words.

        Args:
            table: as recorded with.
            length: T of the probe.
            queries: as recorded with.
        """
        first, last = self.trace.rows[0], self.trace.rows[-1]
        logits = class_logits(self.model, table)
        composition = attention_composition(logits, table.probabilities)
        advantage = rank_advantage(logits, table)
        uniform = uniform_entropy(length, queries, self.model.include_query).mean()
        figures = {
            "common mass at the start": first["common_mass"],
            "common mass": last["common_mass"],
            "entropy at the start": first["entropy"],
            "entropy": last["entropy"],
            "freeze step": freeze_step(self.trace.series("step"), self.trace.series("common_mass")),
            "order correlation": order_correlation(composition, table),
            "order correlation of the logits": order_correlation(logits, table),
            "largest share of one token": last["largest"],
            "rank of distinct above common tokens": float(advantage.mean())
            if len(advantage)
            else float("nan"),
            "attention entropy": last["attention_entropy"],
            "attention entropy if uniform": float(uniform),
        }
        return {name: value if np.isfinite(value) else None for name, value in figures.items()}
