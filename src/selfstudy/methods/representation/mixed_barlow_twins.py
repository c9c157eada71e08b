"""Mixed Barlow Twins: beside the two views, mixtures of them, whose embeddings should be mixtures too.

Bandara, De Melo, Patel 2023, "Guarding Barlow Twins Against Overfitting with Mixed Samples",
arXiv 2312.02151. Pick it over barlow-twins when unlabelled inputs are few and training is long, so that the
probe of plain Barlow Twins peaks early and falls; the regulariser costs a third pass a step.

Deviations from the paper's code: columns are standardised with the biased variance, as in barlow-twins, so
that the diagonal of u'u / B is 1 and not (B - 1) / B; the checkpoint is chosen on validation inputs by a
linear probe, where the authors choose by nearest neighbours on the test set; their step schedule of the
learning rate is left out, and the defaults are for small images on a few cores.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import generator, stream_key
from selfstudy.core.run import Run
from selfstudy.data.two_views import TwoViews, two_views
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.logged_pictures import logged_picture
from selfstudy.evaluation.probe_curve import ProbeCurve, Probed, Probing
from selfstudy.learning.collapse_watch import DeadColumns
from selfstudy.learning.loops import check_positive
from selfstudy.learning.mixing import LEAST_BATCH, Mixing, mix_batch, mixed_regulariser
from selfstudy.learning.precision import full
from selfstudy.learning.pretraining import Losses, Pretraining, figures, pretrain, trial
from selfstudy.learning.redundancy import barlow_terms, correlation_of, off_diagonal, standardised
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.heads import projector
from selfstudy.tasks.images import ImageTask

WATCHED = 256  # inputs whose features tell whether they have collapsed


@dataclass(frozen=True, kw_only=True)
class MixedBarlowTwins(Method):
    """Pre-train an image encoder by redundancy reduction with mixed samples (Bandara et al. 2023)."""

    works_on = (ImageTask, ImageEncoder)

    projector: tuple[int, ...] = (256, 256)
    """Widths of the layers above the features (the paper: 512, 1024 on small images)."""
    redundancy_weight: float = 0.005
    """lambda, of the off-diagonal terms (the paper: 0.0078125 on CIFAR); about 1 / D when D changes much."""
    loss_scale: float = 1.0
    """Factor of the whole loss; matters to plain SGD alone."""
    mix: Mixing = field(default_factory=Mixing)
    """How mixed samples enter the loss."""
    views: ImageViews = field(default_factory=ImageViews)
    """How the first view is made."""
    other_views: ImageViews = field(default_factory=ImageViews)
    """How the second view is made."""
    pretraining: Pretraining = field(default_factory=Pretraining)
    """Steps, batches and optimiser."""
    probing: Probing = field(default_factory=Probing)
    """When the features are probed on validation inputs, and which weights are given back."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, redundancy_weight=0, loss_scale=0)
        if not self.projector or min(self.projector) < 1:
            raise UsageError(f"projector is {self.projector}: give one or more widths of at least 1.")
        for settings in (self.mix, self.views, self.other_views, self.pretraining, self.probing):
            settings.validate()
        batch = self.pretraining.batch
        if batch < 2:
            raise UsageError(
                "Correlations over a batch of 1 do not exist: give a larger --pretraining.batch."
            )
        if self.mix.weight and batch < LEAST_BATCH:
            warnings.warn(
                f"In batches of {batch} samples are often mixed with themselves; take {LEAST_BATCH} or more.",
                stacklevel=2,
            )

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Pre-train a copy of `model` on the unlabelled images of `task`."""
        model = task.prepared(model)
        self.pretraining.steps(len(task.train))
        found = run.stage("encoder", lambda: self.pretrained(task, model, run))
        terms = {"loss_bt": "Barlow Twins"}
        if self.mix.weight:
            terms["loss_reg"] = "regulariser, before it is weighted"
        return Fit(
            model=found.chosen,
            parts={"last": found.last} if found.looks else {},
            metrics={**figures(run, "encoder"), **found.metrics(task.metric)},
            pictures=[
                *found.pictures(task.metric),
                logged_picture(run.metrics(), "encoder", terms, "Terms of the loss"),
            ],
        )

    def pretrained(self, task: ImageTask, model: ImageEncoder, run: Run) -> Probed:
        """Return the trained copy with its probe curve; within a stage."""
        encoder, watched, dead = model.copy(), task.train.pixels(slice(WATCHED)), DeadColumns()
        head = projector(encoder.width, self.projector, run.key("projector"))
        views = two_views(task.train, self.views, self.other_views, run.key)
        epoch = len(task.train) // self.pretraining.batch
        curve = ProbeCurve(encoder, task, self.probing, epoch=epoch, run=run)
        done = pretrain(
            run,
            {"encoder": encoder, "projector": head},
            self.losses(encoder, head, views, epoch, dead, run.rng),
            samples=len(task.train),
            settings=self.pretraining,
            watched=lambda: encoder.embed_pixels(watched),
            state={"dead": dead, "probes": curve},
            after_step=curve.after_step,
            flops=self._step_flops(encoder, head),
        )
        return curve.probed(brought_back=done["collapsed_at"] is not None)

    def losses(
        self,
        encoder: nn.Module,
        head: nn.Module,
        views: TwoViews,
        epoch: int,
        dead: DeadColumns,
        rng: Callable[..., np.random.Generator],
    ) -> Callable[[int, np.ndarray], Losses]:
        """Return the losses of a step and the places of its inputs, for `pretrain`.

        Args:
            encoder: f, from inputs to features [B, d].
            head: g, from features to embeddings [B, D].
            views: two views of the inputs at some places, for a step.
            epoch: steps in a pass.
            dead: takes note of embeddings without variance.
            rng: gives the generator of shares and permutations, as `run.rng` does.
        """

        def standard(embeddings: torch.Tensor) -> torch.Tensor:
            unit = self.mix.row_normalise
            return standardised(functional.normalize(full(embeddings), dim=1) if unit else embeddings)

        def losses(step: int, at: np.ndarray) -> Losses:
            first, second = views(step, at)
            # Passes of their own: batch normalisation must mix neither the views nor the mixtures.
            embeddings, others = head(encoder(first)), head(encoder(second))
            u, v = standard(embeddings), standard(others)
            correlation = correlation_of(u, v)
            invariance, redundancy = barlow_terms(correlation)
            loss = self.loss_scale * (invariance + self.redundancy_weight * redundancy)
            found = {
                "loss_bt": loss.detach(),
                "invariance": invariance.detach(),
                "redundancy": redundancy.detach(),
                "off_diagonal": off_diagonal(correlation.detach()),
                "least_variance": dead.least_variance(embeddings),
            }
            if self.mix.weight:
                alpha, permutation = self.mix.draw(rng("mix", step), len(at))
                w = standard(head(encoder(mix_batch(first, second, alpha, permutation))))
                loss_reg = mixed_regulariser(u, v, w, alpha, permutation, target_b=self.mix.target_b)
                weight = self.mix.weight_at(step, epoch) * self.redundancy_weight
                loss = loss + self.loss_scale * weight * loss_reg
                found["loss_reg"] = loss_reg.detach()
            return {"loss": loss, **found}

        return losses

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit; the probes are not counted."""
        steps = self.pretraining.steps(len(task.train))
        head = projector(model.width, self.projector, 0)
        flops = self._step_flops(task.prepared(model), head)
        return {"samples": steps * self.pretraining.batch, "flops": steps * flops}

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes."""
        encoder = task.prepared(model).copy()
        head = projector(encoder.width, self.projector, 0)
        views = two_views(task.train, self.views, self.other_views, stream_key)
        losses = self.losses(encoder, head, views, 1, DeadColumns(), generator)
        modules = {"encoder": encoder, "projector": head}
        return trial(modules, losses, samples=len(task.train), settings=self.pretraining)

    def _step_flops(self, encoder: ImageEncoder, head: nn.Module) -> float:
        batch, width = self.pretraining.batch, self.projector[-1]
        passes, products = (3, 3) if self.mix.weight else (2, 1)
        one_pass = forward_flops(encoder) + 2 * sum(part.numel() for part in head.parameters())
        return TRAINED * batch * (passes * one_pass + products * 2.0 * width**2)
