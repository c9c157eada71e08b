"""iSogCLR: contrastive pre-training in which every image has a temperature of its own.

Qiu, Hu, Yuan, Zhou, Zhang, Yang 2023, "Not All Semantics are Created Equal: Contrastive Self-supervised
Learning with Automatic Temperature Individualization", arXiv 2305.11965. Images with many look-alikes come to
a high temperature, which leaves the nearest of their negatives in peace; rare ones to a low one. Pick it over
SimCLR when the images are long-tailed, when batches are small, or when the temperature is not to be tuned;
over barlow-twins when a measure of how common each image is has a use of its own. `objective` makes of it
SogCLR (all temperatures fixed) and SimCLR (NT-Xent); with a `queue` they use keys of earlier images as MoCo
does.

Deviations from the paper: the moving average s is kept as its logarithm, so that no temperature is too small
and the running maximum b of the authors' code is not needed; an image seen for the first time takes
s = g also after the first pass; exponents hold S as in the authors' code, unless `centred`; encoder, batches,
views and Adam are for small images on a few cores. The loss of image-text pairs is
`selfstudy.learning.contrastive.image_text_loss`; there is no training on pairs here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.two_views import two_views
from selfstudy.data.views import ImageViews
from selfstudy.evaluation.logged_pictures import logged_picture
from selfstudy.evaluation.temperature_pictures import temperature_extremes, temperature_histogram
from selfstudy.learning.contrastive import individual_loss, info_nce, nt_xent, queue_loss
from selfstudy.learning.key_queue import KeyQueue
from selfstudy.learning.loops import check_positive
from selfstudy.learning.parts import Parts
from selfstudy.learning.pretraining import Losses, Pretraining, pretrain, trial
from selfstudy.learning.temperatures import IndividualTemperatures, TemperatureLearning
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.heads import projector
from selfstudy.tasks.images import ImageTask

LEAST_BATCH = 4
WATCHED = 256  # images that collapse is looked for on


@dataclass(frozen=True, kw_only=True)
class Isogclr(Method):
    """Pre-train an image encoder with a temperature of each image (Qiu et al. 2023)."""

    works_on = (ImageTask, ImageEncoder)

    objective: Literal["isogclr", "sogclr", "simclr"] = "isogclr"
    """Temperatures learned image by image, or one fixed temperature with moving averages, or NT-Xent."""
    temperature: float = 0.2
    """Where temperatures begin, or the fixed one (the paper's CIFAR runs: 0.1)."""
    individual: TemperatureLearning = field(default_factory=TemperatureLearning)
    """How temperatures are learned; of it "sogclr" uses `new_mean` alone, "simclr" nothing."""
    centred: bool = False
    """Whether exponents hold the similarity less that of the two views, as the paper writes it."""
    queue: int = 0
    """Keys of earlier images that a view is compared with, in place of the batch; 0 is no queue."""
    key_momentum: float = 0.99
    """Share of itself that the slow encoder of the keys keeps at a step."""
    projector: tuple[int, ...] = (64, 64)
    """Widths of the layers above the features (the paper: 128, 128)."""
    views: ImageViews = field(default_factory=ImageViews)
    """How both views are made."""
    pretraining: Pretraining = field(default_factory=lambda: Pretraining(batch=128, learning_rate=1e-3))
    """Steps, batches and optimiser (the paper: SGD at 0.8, which suits this loss and not NT-Xent)."""
    allow_new_images: bool = False
    """Whether a run goes on when images were added behind those that it began with."""

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, temperature=0)
        if not self.projector or min(self.projector) < 1:
            raise UsageError(f"projector is {self.projector}: give one or more widths of at least 1.")
        if self.pretraining.batch < LEAST_BATCH:
            raise UsageError(
                f"Batches of {self.pretraining.batch} images hardly have negatives: give a "
                f"--pretraining.batch of at least {LEAST_BATCH}."
            )
        if self.queue < 0 or not 0 <= self.key_momentum < 1:
            raise UsageError(
                f"queue is {self.queue} and key_momentum {self.key_momentum}: a queue has 0 keys or more, "
                "and the momentum is from 0 to below 1."
            )
        learned = self.individual
        learned.validate(self._negatives() if self.objective == "isogclr" else None)
        if self.objective == "isogclr" and not learned.least <= self.temperature <= learned.greatest:
            raise UsageError(
                f"temperature is {self.temperature}; temperatures begin between their bounds, "
                f"{learned.least} and {learned.greatest}."
            )
        for settings in (self.views, self.pretraining):
            settings.validate()

    def cost(self, task: ImageTask, model: ImageEncoder) -> dict[str, float]:
        """Return what a fit spends, by budget unit."""
        steps = self.pretraining.steps(len(task.train))
        return {"samples": steps * self.pretraining.batch, "flops": steps * self._step_flops(model)}

    def trial(self, task: ImageTask, model: ImageEncoder) -> tuple[Callable[[], object], int]:
        """Return one step on a copy, and how many a fit takes."""
        learner = self._learner(task, model, stream_key)
        losses = self._losses(task, learner, stream_key)
        return trial(learner.modules(), losses, samples=len(task.train), settings=self.pretraining)

    def fit(self, task: ImageTask, model: ImageEncoder, run: Run) -> Fit:
        """Pre-train a copy of `model` on the unlabelled images of `task`."""
        self.pretraining.steps(len(task.train))
        trained = run.stage("encoder", lambda: self.pretrained(task, model, run))
        parts = dict(trained.parts)
        encoder = parts.pop("encoder")
        if self.objective != "isogclr":
            return Fit(model=encoder, parts=parts, metrics=trained.facts)
        found = parts["temperatures"].by_input
        figures = {"mean": found.mean(), "lowest": found.min(), "highest": found.max()}
        return Fit(
            model=encoder,
            parts=parts,
            metrics={**trained.facts, **{f"{name} temperature": float(figures[name]) for name in figures}},
            pictures=[
                temperature_histogram(found, self.temperature),
                temperature_extremes(found, task.train),
                logged_picture(
                    run.metrics(),
                    "encoder",
                    {"temperature": "temperature", "divergence": "divergence of the weights"},
                    "Temperatures on the way",
                    note="Means over the batch. Temperatures come to rest where the weights of the negatives "
                    f"diverge from uniform by rho, {self.individual.rho:g}.",
                ),
            ],
        )

    def pretrained(self, task: ImageTask, model: ImageEncoder, run: Run) -> Parts:
        """Return the trained copy and the temperatures; within a stage."""
        learner = self._learner(task, model, run.key)
        encoder, watched = learner.encoder, task.train.pixels(slice(WATCHED))
        facts = pretrain(
            run,
            learner.modules(),
            self._losses(task, learner, run.key),
            samples=len(task.train),
            settings=self.pretraining,
            watched=lambda: encoder.embed_pixels(watched),
            flops=self._step_flops(model),
        )
        kept = {"temperatures": learner.temperatures} if learner.temperatures else {}
        return Parts({"encoder": encoder, **kept}, facts)

    def _learner(self, task: ImageTask, model: ImageEncoder, key: Callable[..., int]) -> _Learner:
        """Return all that changes from step to step; `key` names streams."""
        encoder, temperatures, queue = model.copy(), None, None
        head = projector(encoder.width, self.projector, key("projector"), normalised=False)
        if self.objective != "simclr":
            rate = self.individual.rate if self.objective == "isogclr" else 0.0
            settings = replace(self.individual, rate=rate)
            temperatures = IndividualTemperatures(
                len(task.train), self.temperature, settings, allow_new=self.allow_new_images
            )
        if self.queue:
            network, width = nn.Sequential(encoder, head), self.projector[-1]
            queue = KeyQueue(network, size=self.queue, width=width, key=key("queue"), keep=self.key_momentum)
        return _Learner(encoder, head, temperatures, queue)

    def _losses(
        self, task: ImageTask, learner: _Learner, key: Callable[..., int]
    ) -> Callable[[int, np.ndarray], Losses]:
        """Return the losses of a step as a function of its number and its images."""
        network = nn.Sequential(learner.encoder, learner.head)
        temperatures, queue = learner.temperatures, learner.queue
        views = two_views(task.train, self.views, self.views, key)

        def losses(step: int, at: np.ndarray) -> Losses:
            ids = torch.from_numpy(at)
            first, second = views(step, at)
            if queue is None:
                z_first, z_second = network(torch.cat((first, second))).chunk(2)
                if temperatures is None:
                    return {"loss": nt_xent(z_first, z_second, self.temperature)}
                return individual_loss(z_first, z_second, ids, temperatures, centred=self.centred)
            queries, keys = network(first), queue.embed(second, network)
            if temperatures is None:
                found = {"loss": info_nce(queries, keys, queue.keys, self.temperature)}
            else:
                found = queue_loss(queries, keys, queue.keys, ids, temperatures)
            queue.push(keys)
            return found

        return losses

    def _negatives(self) -> int:
        """Return how many columns are weighed for a row."""
        return self.queue + 1 if self.queue else 2 * self.pretraining.batch - 2

    def _step_flops(self, model: ImageEncoder) -> float:
        passes = TRAINED + 1 if self.queue else 2 * TRAINED
        return passes * forward_flops(model) * self.pretraining.batch


@dataclass(frozen=True)
class _Learner:
    encoder: ImageEncoder
    head: nn.Module
    temperatures: IndividualTemperatures | None
    queue: KeyQueue | None

    def modules(self) -> dict[str, nn.Module]:
        """Return what there is, by name."""
        found = {
            "encoder": self.encoder,
            "projector": self.head,
            "temperatures": self.temperatures,
            "queue": self.queue,
        }
        return {name: module for name, module in found.items() if module is not None}
