"""T-JEPA: predict what an encoder says of some columns of a row from what it says of the others.

Thimonier, De Melo Costa, Popineau, Rimmel, Doan 2024, "T-JEPA: Augmentation-Free Self-Supervised Learning for
Tabular Data", arXiv 2410.05016. Nothing has to be invented as an augmentation: targets are the latents of
hidden columns by a teacher that follows the encoder slowly and sees the whole row. Pick it for tables of ten
columns or more that depend on one another, with many rows and few labels. Compared with predicting the
hidden values themselves it need not model their noise. With enough labels boosted trees are hard to beat:
compare.

Deviations from the paper and its code: the columns of the masks are found at token r + column, where the code
counts from the first token and so never masks the last column; the M masks of a row differ, where the code's
are views of one array; ranges, categories and training take training rows alone unless the task says
transductive=true; the norm of the gradient is clipped, not its elements; sizes are for minutes on a few
cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.table_columns import Rows
from selfstudy.data.table_masks import ColumnMasks, Masks
from selfstudy.evaluation.probe_curve import ProbeCurve, Probed, Probing
from selfstudy.learning.latent_prediction import LatentPredictor, latent_loss, taken
from selfstudy.learning.loops import check_positive
from selfstudy.learning.pretraining import Losses, Pretraining, figures, pretrain, trial
from selfstudy.learning.table_heads import HeadTraining, frozen_predictor
from selfstudy.models.ema import follow, follower, rising
from selfstudy.models.encoders.table_heads import TablePredictor
from selfstudy.models.encoders.tables import TabularTransformer
from selfstudy.tasks.table_task import Labelled, TableTask

WATCHED = 512  # training rows whose spread tells a collapse
COLLAPSED = 0.1  # of that spread at the start


@dataclass(frozen=True, kw_only=True)
class TJepa(Method):
    """Pre-train an encoder of table rows by predicting latents of hidden columns (Thimonier et al. 2024)."""

    works_on = (TableTask, TabularTransformer)

    masks: ColumnMasks = field(default_factory=ColumnMasks)
    """Which columns are shown and which are asked for."""
    predictor_width: int = 16
    """H_p, of the predictor's tokens."""
    predictor_layers: int = 2
    """Of the predictor (the authors: 2 to 32)."""
    predictor_heads: int = 4
    """Of its attention."""
    teacher_keep: float = 0.99
    """m, the share of itself that the teacher keeps at the first step; it rises to 1 (the paper: 0.996)."""
    probing: Probing = field(default_factory=lambda: Probing(every=20.0))
    """When the teacher is probed on validation rows, and which weights are given back."""
    pretraining: Pretraining = field(
        default_factory=lambda: Pretraining(
            epochs=60,
            batch=64,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.0,
            warmup_epochs=5,
            last_rate=0.0,
            clip=1.0,
        )
    )
    """Steps, batches and optimiser (the authors: batches of 512, rates from 1e-5 to 1e-3)."""
    head: HeadTraining = field(default_factory=HeadTraining)
    """What is trained on the labelled rows afterwards, on the frozen encoder; given back as `predictor`."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, predictor_width=0, predictor_layers=0, predictor_heads=0)
        if self.predictor_width % self.predictor_heads or self.predictor_width % 2:
            raise UsageError(
                f"predictor_width is {self.predictor_width}: it must be even and a multiple of "
                f"predictor_heads ({self.predictor_heads})."
            )
        if not 0 <= self.teacher_keep <= 1:
            raise UsageError(f"teacher_keep is {self.teacher_keep}; it must be from 0 to 1.")
        for settings in (self.masks, self.probing, self.pretraining, self.head):
            settings.validate()

    def fit(self, task: TableTask, model: TabularTransformer, run: Run) -> Fit:
        """Pre-train a copy of `model` on the unlabelled rows of `task`; the teacher is what it gives."""
        model = task.prepared(model)
        self.masks.require(len(model.columns))
        self.pretraining.steps(len(task.train))
        if self.head.network != "none":
            self.require_labels(task)
        found = run.stage("encoder", lambda: self.pretrained(task, model, run))
        encoder = found.chosen.requires_grad_(True)
        parts: dict[str, Any] = {"last": found.last.requires_grad_(True)} if found.looks else {}
        if self.head.network != "none":
            parts["predictor"] = run.stage("head", lambda: self.with_head(task, encoder, run))
        return Fit(
            model=encoder,
            parts=parts,
            metrics={**figures(run, "encoder"), **found.metrics(task.metric)},
            pictures=found.pictures(task.metric),
        )

    def pretrained(self, task: TableTask, model: TabularTransformer, run: Run) -> Probed:
        """Return the teacher with its probe curve; within a stage."""
        student, teacher = model.copy(), follower(model)
        predictor = self.latent_predictor(model, run.key("predictor"))
        rows = model.rows(task.train)
        steps, epoch = self.pretraining.steps(len(task.train)), len(task.train) // self.pretraining.batch
        curve = ProbeCurve(teacher, task, self.probing, epoch=epoch, run=run)

        def after_step(step: int) -> None:
            follow(teacher, student, rising(step, steps, self.teacher_keep))
            curve.after_step(step)

        done = pretrain(
            run,
            {"student": student, "predictor": predictor, "teacher": teacher},
            self.losses(student, teacher, predictor, rows, run.key),
            samples=len(task.train),
            settings=self.pretraining,
            watched=lambda: teacher.encoded(rows.at(slice(WATCHED))).flatten(1),
            state={"probes": curve},
            after_step=after_step,
            flops=self._step_flops(model),
            collapsed=COLLAPSED,
        )
        return curve.probed(brought_back=done["collapsed_at"] is not None)

    def with_head(self, task: TableTask, encoder: TabularTransformer, run: Run) -> TablePredictor:
        """Return the frozen encoder with a head that tells labels."""
        table, answers = self.require_labels(task)
        return frozen_predictor(encoder, encoder.rows(table), answers, self.head, run.key("head"))

    def require_labels(self, task: TableTask) -> Labelled:
        """Return the labelled rows that a head is trained on; there must be some."""
        if task.labelled is None:
            raise UsageError(
                f"The task {task.name} has no labels to train a head on. Name their column, as in "
                "label=price, or take --head.network none."
            )
        return task.labelled

    def losses(
        self,
        student: TabularTransformer,
        teacher: TabularTransformer,
        predictor: LatentPredictor,
        rows: Rows,
        key: Callable[..., int],
    ) -> Callable[[int, np.ndarray], Losses]:
        """Return the losses of a step and the places of its rows, for `pretrain`; `key` is as `run.key`."""
        columns = len(student.columns)

        def losses(step: int, at: np.ndarray) -> Losses:
            masks = self.masks(columns, key("masks", step), at)
            return {"loss": jepa_loss(student, teacher, predictor, rows.at(torch.from_numpy(at)), masks)}

        return losses

    def cost(self, task: TableTask, model: TabularTransformer) -> dict[str, float]:
        """Return what a fit spends, by budget unit; the probes are not counted."""
        steps = self.pretraining.steps(len(task.train))
        flops = self._step_flops(task.prepared(model))
        return {"samples": steps * self.pretraining.batch, "flops": steps * flops}

    def trial(self, task: TableTask, model: TabularTransformer) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes."""
        student = task.prepared(model).copy()
        self.masks.require(len(student.columns))
        teacher, predictor = follower(student), self.latent_predictor(student, 0)
        modules = {"student": student, "predictor": predictor, "teacher": teacher}
        losses = self.losses(student, teacher, predictor, student.rows(task.train), stream_key)
        return trial(modules, losses, samples=len(task.train), settings=self.pretraining)

    def latent_predictor(self, encoder: TabularTransformer, key: int) -> LatentPredictor:
        """Return g, from what `encoder` says of a context to what the teacher may say of other columns."""
        return LatentPredictor(
            encoder.token_width,
            len(encoder.columns),
            encoder.registers,
            inner=self.predictor_width,
            layers=self.predictor_layers,
            heads=self.predictor_heads,
            key=key,
        )

    def _step_flops(self, encoder: TabularTransformer) -> float:
        """Return what a step multiplies and adds in its matrices, as if every mask had its mean size."""
        columns = len(encoder.columns)
        shown, asked = (columns * sum(shares) / 2 for shares in (self.masks.context, self.masks.target))
        context = encoder.registers + shown
        own = sum(
            weight.numel() for block in (encoder.transformer, encoder.end) for weight in block.parameters()
        )
        guess = sum(weight.numel() for weight in self.latent_predictor(encoder, 0).transformer.parameters())
        # Two for each weight and token of a pass forward, and twice that again backward.
        seen = 6 * context + 2 * (encoder.registers + columns)
        return self.pretraining.batch * (own * seen + 6 * guess * self.masks.targets * (context + asked))


def jepa_loss(
    student: TabularTransformer,
    teacher: TabularTransformer,
    predictor: LatentPredictor,
    rows: Rows,
    masks: Masks,
) -> torch.Tensor:
    """Return the mean squared error of the predicted latents of hidden columns (the paper, equation 3).

    Args:
        student: encodes the registers and the context alone.
        teacher: encodes whole rows; its latents at the targets are what is to be told.
        predictor: from the first to the second.
        rows: B of them.
        masks: context [B, n_ctx] and targets [M, B, n_tgt].
    """
    context, targets = (torch.from_numpy(places) for places in masks)
    registers = student.registers
    with torch.no_grad():
        teacher.eval()
        whole = teacher.encode(teacher.tokens(rows))  # [B, r+D, H]: latents of columns in their row
        told = torch.stack([taken(whole, registers + places) for places in targets])
    tokens = student.tokens(rows)
    seen = torch.cat([tokens[:, :registers], taken(tokens, registers + context)], 1)
    return latent_loss(predictor(student.encode(seen), context, targets), told)
