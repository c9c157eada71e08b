"""Pre-training a model further on inputs of a new domain: masked images or masked texts, in one loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import derive
from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts
from selfstudy.data.views import ImageViews, view_keys
from selfstudy.learning.loops import batch_indices, check_positive, seeded
from selfstudy.learning.masked_images import masked_flops, masked_image_loss
from selfstudy.learning.masked_language import masked_language_loss, tells_words
from selfstudy.learning.optimizers import OptimizerName, decayed_groups, named_optimizer
from selfstudy.learning.schedules import ScheduleName, share_of_peak
from selfstudy.models.encoders.flops import TRAINED, forward_flops
from selfstudy.models.encoders.masked_decoder import MaskedAutoencoder, MaskedImageEncoder
from selfstudy.models.encoders.small_bert import SmallBert

Losses = dict[str, torch.Tensor]
Pooling = Literal["cls", "mean"]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STREAM = "further"  # of the random streams, the same in every round: rounds differ in their loss alone


@dataclass(frozen=True, kw_only=True)
class FurtherPretraining:
    """How long and how a model is pre-trained further."""

    steps: int = 600
    """S, optimiser steps of each round."""
    batch: int = 64
    """Inputs a step; all, where there are fewer."""
    optimizer: OptimizerName = "adamw"
    """Of the update."""
    betas: tuple[float, float] | None = (0.9, 0.95)
    """Of the optimiser's two moments; None is its own."""
    learning_rate: float = 5e-4
    """Its peak (the authors, with ViT-MAE base: 1.5e-4)."""
    weight_decay: float = 0.01
    """Of all weights but biases and normalisation."""
    schedule: ScheduleName = "linear"
    """Of the learning rate; see `selfstudy.learning.schedules`."""
    warmup: float = 0.0
    """Share of the steps over which it rises to its peak."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 is any."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """In which networks compute; losses are always in float32."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, steps=0, batch=0, learning_rate=0)
        if not (0 <= self.warmup < 1 and min(self.weight_decay, self.clip) >= 0):
            raise UsageError(
                f"FurtherPretraining has warmup {self.warmup}, weight-decay {self.weight_decay} and clip "
                f"{self.clip}: the first must be from 0 to below 1, the others at least 0."
            )
        named_optimizer(self.optimizer, [nn.Parameter(torch.zeros(1))], self.betas)

    def optimizer_of(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of all weights; vectors (biases, scales) are not decayed."""
        return named_optimizer(self.optimizer, decayed_groups(model, self.weight_decay), self.betas)


class Domain(NamedTuple):
    """Inputs of the new domain, and what a model does with them.

    Attributes:
        samples: how many inputs there are.
        inputs: from a key and the places [B] of inputs to those inputs, randomly viewed.
        masked_loss: of a model, inputs and the key that says what is hidden.
        represent: h [B, d] of a model and inputs of which nothing is hidden, with gradients.
    """

    samples: int
    inputs: Callable[[int, np.ndarray], Any]
    masked_loss: Callable[[Any, Any, int], torch.Tensor]
    represent: Callable[[Any, Any], torch.Tensor]


def domain_of(
    items: Any, model: Any, *, views: ImageViews, ratio: float, normalised: bool, pooling: Pooling
) -> Domain:
    """Return the domain of items, as a model that was made for them does with it.

    Args:
        items: images or texts.
        model: that can tell hidden parts of such items.
        views: of images.
        ratio: share of the patches of an image that is hidden.
        normalised: whether pixels are told less the mean of their patch, over its deviation.
        pooling: what represents an input.

    Raises:
        UsageError: the model has nothing to tell hidden parts with.
    """
    if isinstance(items, Texts) and tells_words(model):
        return text_domain(items.texts, model, pooling=pooling)
    if isinstance(items, ImageSet) and isinstance(model, MaskedImageEncoder):
        return image_domain(items, views, ratio=ratio, normalised=normalised, pooling=pooling)
    raise UsageError(
        f"The model {model.name!r} cannot tell hidden parts of {items.name!r}. Of images mae can, and "
        "vision:ID of a masked autoencoder (facebook/vit-mae-base); of texts small-bert, and mlm:ID."
    )


def image_domain(
    images: ImageSet, views: ImageViews, *, ratio: float, normalised: bool, pooling: Pooling
) -> Domain:
    """Return the domain of a set of images; fields as in `masked_image_loss`."""

    def inputs(key: int, at: np.ndarray) -> torch.Tensor:
        return views(images.pixels(at), view_keys(key, at))

    def masked_loss(model: MaskedImageEncoder, pixels: torch.Tensor, key: int) -> torch.Tensor:
        keys = derive(key, np.arange(len(pixels)))
        return masked_image_loss(model, pixels, keys, ratio=ratio, normalised=normalised)

    def represent(model: MaskedImageEncoder, pixels: torch.Tensor) -> torch.Tensor:
        tokens = model.tokens(model.seen(pixels))
        return tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)

    return Domain(len(images), inputs, masked_loss, represent)


def text_domain(texts: Sequence[str], model: Any, *, pooling: Pooling) -> Domain:
    """Return the domain of texts, as `model` reads them; it is said how many are cut at its length.

    Args:
        texts: without labels.
        model: that tells hidden words, such as `SmallBert`; without a [CLS] token its states are averaged.
        pooling: which state represents a text.
    """
    read = model.tokenizer(list(texts), truncation=True, max_length=model.length)
    cut = sum(bool(one.overflowing) for one in read.encodings)
    if cut:
        warnings.warn(
            f"{cut} of {len(texts)} texts are longer than {model.length} tokens; the rest is not read.",
            stacklevel=2,
        )
    first = model.tokenizer.cls_token_id is not None
    if pooling == "cls" and not first:
        warnings.warn(
            f"The model {model.name!r} has no [CLS] token: the mean over all tokens stands for a text.",
            stacklevel=2,
        )

    def inputs(_: int, at: np.ndarray) -> list[str]:
        return [texts[place] for place in at]

    def represent(encoder: Any, some: Sequence[str]) -> torch.Tensor:
        tokens = encoder.tokens(some)
        states = encoder.states(tokens)  # [B, T, d]
        if pooling == "cls" and first:
            return states[:, 0]
        mask = tokens.mask[:, :, None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    return Domain(len(texts), inputs, masked_language_loss, represent)


def pretrain_further(
    run: Run,
    model: nn.Module,
    losses: Callable[[int, np.ndarray], Losses],
    *,
    samples: int,
    settings: FurtherPretraining,
    flops: float = 0.0,
) -> int:
    """Train `model` in place on `losses(step, places)["loss"]`; its other entries are logged beside it.

    Args:
        run: within a stage of its own.
        model: all that is trained.
        losses: of a step and the places of its inputs; tensors without dimension.
        samples: unlabelled inputs.
        settings: how long and how.
        flops: of one step, for the budget.

    Returns:
        The steps that were done.
    """
    optimizer, done = settings.optimizer_of(model), 0
    batch = min(settings.batch, samples)
    cost = {"samples": batch, **({"flops": flops} if flops else {})}
    state: dict[str, Stateful] = {"model": model, "optimizer": optimizer}
    for step in run.steps(settings.steps, state=state, desc="pretrain", cost=cost):
        at = batch_indices(run, STREAM, step, samples, batch)
        with seeded(run.key(STREAM, "dropout", step)):
            found = step_further(model, optimizer, lambda at=at, step=step: losses(step, at), settings, step)  # type: ignore[misc]
        run.log(step=step, **{name: value.item() for name, value in found.items()})
        done = step + 1
    model.eval()
    return done


def step_further(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Callable[[], Losses],
    settings: FurtherPretraining,
    step: int,
) -> Losses:
    """Move the weights of `model` by one step, and return its losses.

    Raises:
        DataError: the loss is not finite.
    """
    model.train()
    device = next(model.parameters()).device.type
    number = PRECISIONS[settings.precision]
    with torch.autocast(device, number, enabled=number != torch.float32):
        found = losses()
    if not torch.isfinite(found["loss"]):
        narrow = "Take precision bf16, whose numbers reach further than those of fp16; else lower"
        raise DataError(
            f"The loss of pre-training is {found['loss'].item()} at step {step}. "
            f"{narrow if settings.precision == 'fp16' else 'Lower'} the learning rate "
            f"({settings.learning_rate:g}), and look at the inputs."
        )
    found["loss"].backward()
    if settings.clip:
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    rate = settings.learning_rate * share_of_peak(settings.schedule, step, settings.steps, settings.warmup)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return found


def further_cost(model: Any, batch: int, ratio: float, *, distilled: bool) -> dict[str, float]:
    """Return what a step spends, by budget unit; operations are counted for images alone.

    Args:
        model: made for the inputs.
        batch: inputs of a step.
        ratio: share of the patches of an image that is hidden.
        distilled: whether student and teacher also read the whole input.
    """
    if not isinstance(model, MaskedImageEncoder):
        return {"samples": batch}
    flops = TRAINED * masked_flops(model, ratio)
    if distilled:
        flops += (TRAINED + 1) * forward_flops(model)
    return {"samples": batch, "flops": batch * flops}


def trunk(model: Any) -> nn.Module:
    """Return what of a model is kept for later tasks: all but the decoder, or the head that tells words."""
    return model.autoencoder.vit if isinstance(model, MaskedImageEncoder) else model.network.base_model


def has_first_weights(model: Any) -> bool:
    """Return whether a small model has not been trained at all."""
    if not isinstance(model, MaskedAutoencoder | SmallBert):
        return False
    fresh = type(model)(**model.config)
    return all(map(torch.equal, model.parameters(), fresh.parameters()))
