"""Scan and snap: how a layer of attention comes to look at some tokens and to drop others.

Tian, Wang, Chen, Du 2023, "Scan and Snap: Understanding Training Dynamics and Token Composition in 1-layer
Transformer", arXiv 2305.16380. A layer of attention (Z) and its decoder (Y) are trained at separate rates,
from zero. Attention leaves common tokens, which come with several next tokens, for distinct ones, which come
with one, the more frequent the faster (scan), and then stops changing before one token has it all (snap).
Pick it to see which tokens of your text are distinct, to choose the ratio of the two rates, or to check an
implementation of attention against theory. To see what a trained language model attends to, no training is
needed: record its attention (`selfstudy.models.language.attention`).

Deviations from the paper: positions of real text are drawn at random instead of in order; there is no end of
line token; the rates fall evenly over the whole training instead of after each pass over the text; factored
matrices start with one factor at zero and the other random, so that attention starts uniform there too; on
text, whether a word is common is told from the next words that it comes with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.cooccurrence import Sequences
from selfstudy.evaluation.attention_pictures import attention_pictures
from selfstudy.evaluation.attention_trace import AttentionTrace, Dynamics
from selfstudy.learning.groups import parameter_groups
from selfstudy.learning.loops import check_positive
from selfstudy.models.attention_decoder import AttentionDecoder, losses, require_decoder
from selfstudy.tasks.cooccurrence import CooccurrenceTask
from selfstudy.tasks.next_words import NextWordsTask

TokenTask = CooccurrenceTask | NextWordsTask


@dataclass(frozen=True, kw_only=True)
class ScanAndSnap(Method):
    """Train attention and decoder at separate rates and watch attention (Tian et al. 2023)."""

    works_on = ((CooccurrenceTask, NextWordsTask), AttentionDecoder)

    steps: int = 100
    """Optimiser steps."""
    batch: int = 128
    """Sequences a step; 20 windows on text."""
    attention_rate: float = 1.0
    """Learning rate of Z (eta_Z)."""
    decoder_rate: float = 1.0
    """Learning rate of Y (eta_Y)."""
    momentum: float = 0.9
    """Of SGD; the theory is about 0, which takes about ten times the steps."""
    clip: float | None = None
    """Largest norm of the gradient; 0.5 on text. None leaves it as it is."""
    decay: float = 1.0
    """Factor on both rates from the first step to the last; 0.77 on text: 0.95 in each of 5 passes."""
    records: int = 100
    """Times that attention is recorded, evenly over the steps."""
    probe: int = 64
    """Held-out sequences on which the entropy of attention is measured."""
    sweep_ratios: tuple[float, ...] = ()
    """Ratios eta_Y / eta_Z of further trainings, which are compared in pictures."""
    sweep_rates: tuple[float, ...] = ()
    """Their rates eta_Z; only attention_rate where none is given."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, steps=0, batch=0, records=0, probe=0)
        rates = {"attention_rate": (self.attention_rate,), "decoder_rate": (self.decoder_rate,)}
        for name, values in {
            **rates,
            "sweep_ratios": self.sweep_ratios,
            "sweep_rates": self.sweep_rates,
        }.items():
            if not all(0 < value < math.inf for value in values):
                raise UsageError(
                    f"{name} is {', '.join(map(str, values))}; rates and ratios must be above 0."
                )
        if self.sweep_rates and not self.sweep_ratios:
            raise UsageError("sweep_rates needs sweep_ratios: say which ratios each rate is tried with.")
        if not 0 <= self.momentum < 1 or not 0 < self.decay <= 1:
            raise UsageError(
                f"momentum is {self.momentum} and decay {self.decay}; they must be within "
                "0 <= momentum < 1 and 0 < decay <= 1."
            )
        if self.clip is not None and not self.clip > 0:
            raise UsageError(f"clip is {self.clip}; it must be above 0, or None.")

    def cost(self, task: TokenTask, model: AttentionDecoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        return {"samples": float((1 + len(self.swept())) * self.steps * self.batch)}

    def trial(self, task: TokenTask, model: AttentionDecoder) -> tuple[Callable[[], object], int]:
        """Return a callable that does one step on a copy, and how many a fit takes."""
        require_decoder(model, task)
        copy = model.copy()
        optimizer = self._optimizer(copy)
        sequences = task.batch(self.batch, np.random.default_rng(0))
        return lambda: self._step(copy, optimizer, sequences, 0), (1 + len(self.swept())) * self.steps

    def swept(self) -> list[ScanAndSnap]:
        """Return the settings of the further trainings, by rate and then by ratio."""
        rates = self.sweep_rates or (self.attention_rate,)
        return [
            replace(self, attention_rate=rate, decoder_rate=ratio * rate, sweep_ratios=(), sweep_rates=())
            for rate in rates
            for ratio in self.sweep_ratios
        ]

    def fit(self, task: TokenTask, model: AttentionDecoder, run: Run) -> Fit:
        """Train `model` on `task`, and again at the rates of the sweep."""
        require_decoder(model, task)
        dynamics = run.stage("dynamics", lambda: self.train_dynamics(task, model, run))
        others = [
            (other, run.stage(f"sweep-{i}", lambda other=other: other.train_dynamics(task, model, run)))  # type: ignore[misc]
            for i, other in enumerate(self.swept())
        ]
        probe = task.held_out(self.probe)
        figures: dict[str, Any] = dynamics.figures(task.table, probe.tokens.shape[1], probe.targets.shape[1])
        runs = [(s.attention_rate, s.decoder_rate, found.trace) for s, found in [(self, dynamics), *others]]
        if others:
            figures["sweep"] = [
                {"attention_rate": z, "decoder_rate": y, "entropy": trace.rows[-1]["entropy"]}
                for z, y, trace in runs[1:]
            ]
        pictures = attention_pictures(dynamics, task.table, figures, runs)
        return Fit(model=dynamics.model, metrics=figures, pictures=pictures)

    def train_dynamics(self, task: TokenTask, model: AttentionDecoder, run: Run) -> Dynamics:
        """Train a copy of `model` and return it with what its attention did."""
        model, trace, probe = model.copy(), AttentionTrace(), task.held_out(self.probe)
        optimizer = self._optimizer(model)
        queries = probe.targets.shape[1]
        recorded = set(np.linspace(0, self.steps, self.records + 1).round().astype(int).tolist())
        state: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "trace": trace}
        for step in run.steps(self.steps, state=state, desc="train", cost={"samples": self.batch}):
            if step in recorded:
                trace.record(model, task.table, probe.tokens, queries)
            # The same sequences at all rates: a sweep compares rates, not draws.
            loss = self._step(model, optimizer, task.batch(self.batch, run.rng("batch", step)), step)
            if step in recorded:
                run.log(loss=loss, **trace.rows[-1])
            trace.done = step + 1
        trace.record(model, task.table, probe.tokens, queries)
        return Dynamics(model, trace)

    def _optimizer(self, model: AttentionDecoder) -> torch.optim.SGD:
        rates = {"attention": self.attention_rate, "decoder": self.decoder_rate}
        return torch.optim.SGD(parameter_groups(model, rates), momentum=self.momentum)

    def _step(
        self, model: AttentionDecoder, optimizer: torch.optim.SGD, sequences: Sequences, step: int
    ) -> float:
        loss = losses(model, *sequences).mean()
        optimizer.zero_grad()
        loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        for group, rate in zip(optimizer.param_groups, (self.attention_rate, self.decoder_rate), strict=True):
            group["lr"] = rate * self.decay ** (step / self.steps)
        optimizer.step()
        if not all(torch.isfinite(value).all() for value in (loss, *model.parameters())):
            raise UsageError(
                f"Loss or weights are not finite after step {step}. The rates are attention_rate="
                f"{self.attention_rate:g} and decoder_rate={self.decoder_rate:g}: lower them, or set clip."
            )
        return float(loss.detach())
