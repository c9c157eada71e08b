"""Infinite learning rate: pre-train on one domain after another without deciding when to stop.

Singh, Janson, Mehrbod, Ibrahim, Rish, Belilovsky, Thérien 2025, "Beyond Cosine Decay: On the Effectiveness of
Infinite Learning Rate Schedule for Continual Pre-training", arXiv 2503.02844; the schedule is that of Ibrahim
et al. 2024, arXiv 2403.08763. The rate warms up and cools down once and then stays on a plateau; a model to
be used is annealed on a copy, and the next domain goes on from before. Pick it where new texts will keep
coming and earlier ones must not be forgotten. Where all data are there at once and the number of updates is
known, a single cosine over their mixture is simpler; with a few labels in the place of texts, fine-tune.

Deviations from the paper: language alone, and small (the paper also trains masked autoencoders on images);
phases end by default at 5, 30 and 85 % of a domain and the plateau is three quarters of the peak, where the
authors' code has 5, 15 and 80 % and a tenth; every domain has as many updates; MAS, LwF and GDumb, made for
classifiers, are read for a language model (the output is the scores, the features the last hidden states).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.evaluation.forgetting import LossMatrix
from selfstudy.evaluation.schedule_pictures import stream_picture
from selfstudy.learning.continual import (
    check_stream,
    continual_pretrain,
    first_task,
    next_token_loss,
    stream_cost,
)
from selfstudy.learning.snapshots import Snapshot, read_place
from selfstudy.learning.stream_batches import ContinualTraining
from selfstudy.learning.stream_schedules import StreamSchedule
from selfstudy.models.language.model import LanguageModel
from selfstudy.tasks.text_streams import TextStream


@dataclass(frozen=True, kw_only=True)
class InfiniteLr(Method):
    """Train a language model on domains in turn, at a rate that never ends (Singh et al. 2025)."""

    works_on = (TextStream, LanguageModel)

    schedule: StreamSchedule = field(default_factory=StreamSchedule)
    """The learning rate: the infinite one, or what it is compared with."""
    training: ContinualTraining = field(default_factory=ContinualTraining)
    """Updates, batches and optimiser of each domain."""
    start: str = ""
    """A snapshot of an earlier run to go on from, such as runs/first/stages/train-3, with its model in place
    of the one that is given; empty starts anew."""

    def validate(self) -> None:
        """Check the fields against each other."""
        self.schedule.validate()
        self.training.validate()
        self.schedule.phases(self.training.steps)
        if not self.start:
            return
        first_task(read_place(Path(self.start)))
        if self.training.against == "gdumb" or self.schedule.name == "single-cosine":
            raise UsageError(
                f"Nothing goes on from {self.start} with --training.against gdumb, which begins anew in each "
                "domain, nor with --schedule.name single-cosine, which must know the end. Leave out --start, "
                "or take another of these."
            )

    def cost(self, task: TextStream, model: LanguageModel) -> dict[str, float]:
        """Return what a fit spends, by budget unit; annealing on copies is among the updates."""
        begin = self._begin(model)
        return stream_cost(begin.model, self.training, len(task.domains), begun=bool(begin.place))

    def trial(self, task: TextStream, model: LanguageModel) -> tuple[Callable[[], object], int]:
        """Return one update's gradient on a copy, and how many updates a fit takes."""
        model = self._begin(model).model
        check_stream(model, task.tokens(model), self.schedule, self.training)
        module = model.copy().module.train()
        size = (self.training.batch, self.training.context + 1)
        tokens = torch.zeros(size, dtype=torch.long, device=model.device)
        updates = self.training.steps * len(task.domains)
        return lambda: next_token_loss(module, tokens)[0].backward(), updates

    def fit(self, task: TextStream, model: LanguageModel, run: Run) -> Fit:
        """Train on the domains of `task` in turn; the model that comes back is annealed."""
        begin = self._begin(model)
        trained = continual_pretrain(
            run,
            begin.model,
            task.tokens(begin.model),
            task.by_domain,
            self.schedule,
            self.training,
            start=begin,
        )
        matrix = LossMatrix(np.array(trained.losses))
        first = first_task(begin.place)
        rates = stream_picture(
            self.schedule, self.training.steps, task.names, first=first, branch=self.training.branch
        )
        return Fit(
            model=trained.model,
            metrics=matrix.figures(task.names),
            pictures=[*matrix.pictures(task.names, task.metric.name), rates],
        )

    def _begin(self, model: LanguageModel) -> Snapshot:
        """Return the state that training goes on from: `start`, or else the model before any training."""
        return Snapshot.load(Path(self.start)) if self.start else Snapshot(model)
