"""A network with a classifier and a projection on top, whose features on the way can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from selfstudy.core.errors import UsageError

USUAL = 2  # the stage that is looked at unless told, counted from 1
AT_ONCE = 512  # inputs of a look


class Looked(NamedTuple):
    """What a network in evaluation mode says of N inputs: logits [N, C], features of the stage [N, D]."""

    logits: torch.Tensor
    features: torch.Tensor


class StagedNetwork(nn.Module):
    """A body from inputs to features [B, d], and two linear heads on it.

    Args:
        body: the network below the heads.
        classifier: from features to logits [B, C].
        projection: from features to what is contrasted.
        stages: parts of the body by name, first to last.
        stage: the one whose output is looked at; empty is the second, or the last where there are fewer.

    Attributes:
        classes: C.

    Raises:
        UsageError: no stage of that name.
    """

    def __init__(
        self,
        body: nn.Module,
        classifier: nn.Module,
        projection: nn.Module,
        stages: Mapping[str, nn.Module],
        stage: str = "",
    ) -> None:
        super().__init__()
        self.body, self.classifier, self.projection = body, classifier, projection
        self.classes = len(classifier.get_parameter("weight"))
        names = list(stages)
        if not names or (stage and stage not in names):
            raise UsageError(
                f"The network has no stage {stage!r} to look at. It has: {', '.join(names) or 'none'}."
            )
        # In a tuple, so that it is not registered a second time.
        self._watched = (stages[stage or names[min(USUAL, len(names)) - 1]],)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits [B, C]."""
        return self.classifier(self.body(inputs))

    def looked(self, inputs: Callable[[np.ndarray], torch.Tensor], count: int) -> Looked:
        """Return what the network says of `count` inputs in evaluation mode.

        Args:
            inputs: from places to inputs [B, ...].
            count: N.
        """
        seen: list[torch.Tensor] = []
        hook = self._watched[0].register_forward_hook(
            lambda _part, _inputs, output: seen.append(_pooled(output))
        )
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                parts = np.array_split(np.arange(count), max(1, -(-count // AT_ONCE)))
                logits = [self(inputs(at)).float() for at in parts]
        finally:
            hook.remove()
            self.train(training)
        features = nn.functional.normalize(torch.cat(seen), dim=1)
        return Looked(torch.cat(logits), features)


def _pooled(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return a stage's output as one vector an input: its mean over places, [B, D]."""
    output = output[0] if isinstance(output, tuple) else output
    if output.ndim == 4:
        return output.mean((2, 3)).float()
    return (output.mean(1) if output.ndim == 3 else output).float()
