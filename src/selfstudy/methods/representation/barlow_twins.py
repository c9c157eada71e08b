"""Barlow Twins: two views of an image should give the same embedding, and its columns should not repeat.

Zbontar, Jing, Misra, LeCun, Deny 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
arXiv 2103.03230. Pick it to pre-train an encoder without labels when batches are small: unlike SimCLR it
needs no negatives, unlike BYOL no second network. With few images and long training take mixed-barlow-twins;
where some images have many near copies, isogclr.

Deviations from the paper: none in the algorithm. The defaults are for small images on a few cores: a
projector of two layers instead of three, Adam instead of LARS, 20 epochs instead of 1,000, views without
blur, bilinear crops, and steps of colour in one order. The correlation is computed in float32, not under
autocast. Across processes the gradient is that of one process with the whole batch; that of the code of the
authors is smaller by the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.two_views import TwoViews, two_views
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.logged_pictures import logged_picture
from selfstudy.evaluation.pictures import Picture
from selfstudy.learning.collapse_watch import DeadColumns
from selfstudy.learning.loops import check_positive
from selfstudy.learning.pretraining import Losses, Pretraining, figures, pretrain, trial
from selfstudy.learning.redundancy import barlow_terms, cross_correlation, off_diagonal
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.heads import projector
from selfstudy.tasks.images import ImageTask

WATCHED = 256  # inputs whose features tell whether they have collapsed


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(Method):
    """Pre-train an image encoder by redundancy reduction (Zbontar et al. 2021)."""

    works_on = (ImageTask, ImageEncoder)

    projector: tuple[int, ...] = (256, 256)
    """Widths of the layers above the features, the last being D (the paper: 8192, 8192, 8192)."""
    redundancy_weight: float = 0.005
    """lambda, of the off-diagonal terms (the paper: 0.0051); about 1 / D when D changes much."""
    row_normalise: bool = False
    """Whether embeddings get length 1 before their columns are standardised, as some later codes do."""
    loss_scale: float = 1.0
    """Factor of the loss; matters to plain SGD alone."""
    views: ImageViews = field(default_factory=ImageViews)
    """How the first view is made."""
    other_views: ImageViews = field(default_factory=ImageViews)
    """How the second view is made."""
    pretraining: Pretraining = field(default_factory=Pretraining)
    """Steps, batches and optimiser."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, redundancy_weight=0, loss_scale=0)
        if not self.projector or min(self.projector) < 1:
            raise UsageError(f"projector is {self.projector}: give one or more widths of at least 1.")
        for settings in (self.views, self.other_views, self.pretraining):
            settings.validate()

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Pre-train a copy of `model` on the unlabelled images of `task`."""
        model = task.prepared(model)
        self.pretraining.steps(len(task.train))
        encoder = run.stage("encoder", lambda: self.pretrained(task.train, model, run))
        return Fit(model=encoder, metrics=figures(run, "encoder"), pictures=self._curves(run))

    def pretrained(self, images: ImageSet, model: ImageEncoder, run: Run) -> ImageEncoder:
        """Return the trained copy; within a stage."""
        encoder, watched, dead = model.copy(), images.pixels(slice(WATCHED)), DeadColumns()
        head = projector(encoder.width, self.projector, run.key("projector"))
        pretrain(
            run,
            {"encoder": encoder, "projector": head},
            self.losses(encoder, head, two_views(images, self.views, self.other_views, run.key), dead),
            samples=len(images),
            settings=self.pretraining,
            watched=lambda: encoder.embed_pixels(watched),
            state={"dead": dead},
            flops=self._step_flops(encoder, head),
        )
        return encoder

    def losses(
        self, encoder: nn.Module, head: nn.Module, views: TwoViews, dead: DeadColumns
    ) -> Callable[[int, np.ndarray], Losses]:
        """Return the losses of a step and the places of its inputs, for `pretrain`.

        Args:
            encoder: f, from inputs to features [B, d].
            head: g, from features to embeddings [B, D].
            views: two views of the inputs at some places, for a step.
            dead: takes note of embeddings without variance.
        """

        def losses(step: int, at: np.ndarray) -> Losses:
            first, second = views(step, at)
            # Two passes: batch normalisation must not mix the views.
            embeddings, others = head(encoder(first)), head(encoder(second))
            correlation = cross_correlation(embeddings, others, row_normalise=self.row_normalise)
            invariance, redundancy = barlow_terms(correlation)
            return {
                "loss": self.loss_scale * (invariance + self.redundancy_weight * redundancy),
                "invariance": invariance.detach(),
                "redundancy": redundancy.detach(),
                "off_diagonal": off_diagonal(correlation.detach()),
                "least_variance": dead.least_variance(embeddings),
            }

        return losses

    def _curves(self, run: Run) -> list[Picture]:
        return [
            logged_picture(
                run.metrics(),
                "encoder",
                {"invariance": "sum of (C_ii - 1)²", "redundancy": "λ times the sum of C_ij²"},
                "The two sums of the loss",
                scales={"redundancy": self.redundancy_weight},
                note="The first falls as views come to agree, the second as numbers of the embedding stop "
                "saying the same.",
            ),
            logged_picture(
                run.metrics(),
                "encoder",
                {"off_diagonal": "mean |C_ij|, i ≠ j", "least_variance": "smallest variance of a column"},
                "What the embedding is like",
                note="A variance that goes to 0 is a dead column.",
            ),
        ]

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        steps = self.pretraining.steps(len(task.train))
        head = projector(model.width, self.projector, 0)
        return {
            "samples": steps * self.pretraining.batch,
            "flops": steps * self._step_flops(task.prepared(model), head),
        }

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes."""
        encoder = task.prepared(model).copy()
        head = projector(encoder.width, self.projector, 0)
        views = two_views(task.train, self.views, self.other_views, stream_key)
        losses = self.losses(encoder, head, views, DeadColumns())
        modules = {"encoder": encoder, "projector": head}
        return trial(modules, losses, samples=len(task.train), settings=self.pretraining)

    def _step_flops(self, encoder: ImageEncoder, head: nn.Module) -> float:
        batch, width = self.pretraining.batch, self.projector[-1]
        passes = 2 * batch * (forward_flops(encoder) + 2 * sum(part.numel() for part in head.parameters()))
        return TRAINED * (passes + 2.0 * batch * width**2)
