"""Dropout of text encoders: switched on for a step from a stream of its own, off everywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.run import Run
from selfstudy.learning.loops import seeded
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.text_transformers import by_length


@contextmanager
def dropping(module: nn.Module, share: float, key: int) -> Iterator[None]:
    """Inside the block the dropout layers of a module leave out `share`, drawn from the stream of `key`."""
    layers = [part for part in module.modules() if isinstance(part, nn.Dropout)]
    before = [layer.p for layer in layers]
    for layer in layers:
        layer.p = share
    module.train()
    try:
        with seeded(key):
            yield
    finally:
        module.eval()
        for layer, own in zip(layers, before, strict=True):
            layer.p = own


def dropout_passes_of_texts(
    classifier: FeatureClassifier, texts: Sequence[str], passes: int, dropout: float, run: Run, name: str
) -> torch.Tensor:
    """Return probabilities [N, T, C] of texts under T networks with other parts left out.

    Gal and Ghahramani 2016, arXiv 1506.02142. Texts that go through the encoder together are given their own
    networks.

    Args:
        classifier: on a `TextTransformer`.
        texts: N of them.
        passes: T.
        dropout: of the encoder and of its features.
        run: gives the random streams.
        name: of the stream.
    """
    tokens = classifier.encoder.tokens(texts)
    found = torch.empty(len(texts), passes, len(classifier.classes))
    with torch.no_grad():
        for part, at in enumerate(by_length(tokens)):
            for turn in range(passes):
                with dropping(classifier, dropout, run.key(name, "dropout", part, turn)):
                    features = functional.dropout(classifier.encoder.features(tokens.at(at)), dropout)
                found[at, turn] = classifier.head(features).softmax(1)
    return found
