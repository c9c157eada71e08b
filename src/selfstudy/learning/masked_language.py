"""Masked-language modelling: hide some words of texts and tell them from the rest.

Devlin et al. 2018, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
arXiv 1810.04805.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.checkpoint import Stateful
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import derive, uniforms
from selfstudy.core.run import Run
from selfstudy.learning.loops import batch_indices, check_positive, learning_rate, seeded, update
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.models.encoders.small_bert import Tokens

SHARE = 0.15  # of the words that are told
MASKED, REPLACED = 0.8, 0.1  # of those: shown as the hidden token, as any word; the rest is shown as it is
CLIP = 1.0
NOTHING = -100  # the target of a word that is not told


@dataclass(frozen=True, kw_only=True)
class MaskedLanguage:
    """How long and how an encoder of texts learns to tell hidden words."""

    steps: int = 600
    """Optimiser steps."""
    batch: int = 32
    """Texts a step; all, where there are fewer."""
    learning_rate: float = 1e-3
    """Its peak; it falls linearly to 0."""
    warmup: float = 0.1
    """Share of the steps over which it rises to the peak."""
    weight_decay: float = 0.01
    """Of all weights."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, steps=-1, batch=0, learning_rate=0)
        check_optimizer(self.optimizer, self.betas)
        if not (0 <= self.warmup < 1 and self.weight_decay >= 0):
            raise UsageError(
                f"MaskedLanguage has warmup {self.warmup} and weight-decay {self.weight_decay}: the first "
                "must be from 0 to below 1, the other at least 0."
            )


def tells_words(encoder: Any) -> bool:
    """Return whether an encoder can learn to tell hidden words."""
    return hasattr(encoder, "tokens") and hasattr(encoder, "word_scores")


def hide_words(tokens: Tokens, words: range, hidden: int, key: int) -> tuple[Tokens, torch.Tensor]:
    """Return the tokens as the network sees them, and what it must tell: [N, T], `NOTHING` elsewhere.

    Of the words `SHARE` are told, each by its own coin; of those 80 % are shown as the hidden token, 10 % as
    any word, and the rest as they are.

    Args:
        tokens: [N, T].
        words: the tokens that stand for pieces of words; no other is told.
        hidden: the token that stands for a hidden one.
        key: of the stream of coins.
    """
    shape = tuple(tokens.ids.shape)
    place = np.arange(tokens.ids.numel()).reshape(shape)
    told, how, other = (torch.from_numpy(uniforms(derive(key, coin), place)) for coin in range(3))
    told_here = (told < SHARE) & (tokens.ids >= words.start) & (tokens.ids < words.stop) & (tokens.mask > 0)
    targets = tokens.ids.masked_fill(~told_here, NOTHING)
    any_word = words.start + (other * len(words)).long()
    ids = torch.where(told_here & (how < MASKED), hidden, tokens.ids)
    replaced = told_here & (how >= MASKED) & (how < MASKED + REPLACED)
    return Tokens(torch.where(replaced, any_word, ids), tokens.mask), targets


def masked_language_loss(encoder: Any, texts: Sequence[str], key: int) -> torch.Tensor:
    """Return the mean cross-entropy of the hidden words of `texts`; 0 where none is hidden.

    Args:
        encoder: with `tokens`, `states`, `word_scores`, `words` and `hidden_token`, such as `SmallBert`.
        texts: B of them.
        key: of the stream that says which words are hidden.
    """
    seen, targets = hide_words(encoder.tokens(texts), encoder.words, encoder.hidden_token, key)
    told = targets != NOTHING
    scores = encoder.word_scores(encoder.states(seen)[told])  # [K, V]
    return functional.cross_entropy(scores, targets[told], reduction="sum") / max(1, int(told.sum()))


def learn_words(
    run: Run, encoder: Any, texts: Sequence[str], settings: MaskedLanguage, *, desc: str = "words"
) -> Any:
    """Return a copy of `encoder` that has learnt to tell hidden words of `texts`; within a stage.

    Args:
        run: within a stage of its own.
        encoder: made for texts; see `masked_language_loss`.
        texts: without labels.
        settings: how long and how.
        desc: names the loop and its random streams.

    Raises:
        UsageError: an encoder that has no words.
        DataError: no text at all, or a loss that is not finite.
    """
    if not tells_words(encoder):
        raise UsageError(f"The model {encoder.name!r} cannot learn to tell hidden words: take 'small-bert'.")
    if not len(texts):
        raise DataError("There is no text to learn words from.")
    learner = encoder.copy()
    optimizer = named_optimizer(
        settings.optimizer,
        learner.parameters(),
        settings.betas,
        weight_decay=settings.weight_decay,
        fused=False,
    )
    state: dict[str, Stateful] = {"encoder": learner, "optimizer": optimizer}
    batch = min(settings.batch, len(texts))
    for step in run.steps(settings.steps, state=state, desc=desc, cost={"samples": batch}):
        at = batch_indices(run, desc, step, len(texts), batch)
        learner.train()
        with seeded(run.key(desc, "dropout", step)):
            loss = masked_language_loss(learner, [texts[place] for place in at], run.key(desc, "mask", step))
        if not torch.isfinite(loss):
            raise DataError(
                f"The loss of hidden words is {loss.item()} at step {step}. Lower the learning rate "
                f"({settings.learning_rate:g})."
            )
        loss.backward()
        update(optimizer, learning_rate(step, settings.steps, settings.learning_rate, settings.warmup), CLIP)
        run.log(step=step, word_loss=loss.item())
    return learner.eval()
