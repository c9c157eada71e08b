"""Barlow Twins: two views of an image should give the same embedding, and its columns should not repeat.

Zbontar, Jing, Misra, LeCun, Deny 2021, "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
arXiv 2103.03230. Pick it to pre-train an encoder without labels when batches are small: unlike SimCLR it
needs no negatives, unlike BYOL no second network. With few images and long training take mixed-barlow-twins.

Deviations from the paper: none in the algorithm; the defaults are for small images on a few cores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.views import ImageViews, view_keys
from selfstudy.learning.loops import check_positive
from selfstudy.learning.pretraining import Losses, Pretraining, pretrain
from selfstudy.learning.redundancy import barlow_terms, cross_correlation
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.heads import projector
from selfstudy.tasks.images import ImageTask


@dataclass(frozen=True, kw_only=True)
class BarlowTwins(Method):
    """Pre-train an image encoder by redundancy reduction (Zbontar et al. 2021)."""

    works_on = (ImageTask, ImageEncoder)

    projector: tuple[int, ...] = (256, 256)
    """Widths of the layers above the features (the paper: 8192, 8192, 8192)."""
    redundancy_weight: float = 0.005
    """lambda, of the off-diagonal terms (the paper: 0.0051); about 1 / D when D changes much."""
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
        self.pretraining.steps(len(task.train))
        encoder = run.stage("encoder", lambda: self.pretrained(task, model, run))
        return Fit(model=encoder)

    def pretrained(self, task: ImageTask, model: ImageEncoder, run: Run) -> ImageEncoder:
        """Return the trained copy; within a stage."""
        encoder = model.copy()
        head = projector(encoder.width, self.projector, run.key("projector"))
        watched = task.train.pixels(slice(256))

        def losses(step: int, at: np.ndarray) -> Losses:
            images = task.train.pixels(at)
            first = self.views(images, view_keys(run.key("view", 1, step), at))
            second = self.other_views(images, view_keys(run.key("view", 2, step), at))
            # Two passes: batch normalisation must not mix the views.
            correlation = cross_correlation(head(encoder(first)), head(encoder(second)))
            invariance, redundancy = barlow_terms(correlation)
            loss = self.loss_scale * (invariance + self.redundancy_weight * redundancy)
            return {"loss": loss, "invariance": invariance.detach(), "redundancy": redundancy.detach()}

        pretrain(
            run,
            {"encoder": encoder, "projector": head},
            losses,
            samples=len(task.train),
            settings=self.pretraining,
            watched=lambda: encoder.embed_pixels(watched),
        )
        return encoder
