"""Heads of a classifier: from features [N, d] to one logit a class [N, C]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.files import read_json, write_json

CONFIG, WEIGHTS = "config.json", "head.safetensors"
# Of 2 to 8, the one with the least cross-entropy on validation images of digits and of Fashion-MNIST.
SLOPE = 3.0


class Head(nn.Module):
    """A network on features that its keyword arguments make again; they are `config`."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config

    def save(self, folder: Path) -> None:
        """Write configuration (JSON) and weights (safetensors)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, self.config)
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        safetensors.torch.save_file(state, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        head = cls(**read_json(Path(folder) / CONFIG))
        head.load_state_dict(safetensors.torch.load_file(Path(folder) / WEIGHTS))
        return head


def _zero_linear(width: int, classes: int) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, width, classes)  # draws nothing from torch's generator
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class LinearHead(Head):
    """A linear map of standardised features.

    Args:
        width: d.
        classes: C.

    Attributes:
        mean, deviation: [d], taken off the features and divided by.
        linear: the map; starts at zero.
    """

    def __init__(self, *, width: int, classes: int) -> None:
        super().__init__(width=width, classes=classes)
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.linear = _zero_linear(width, classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [N, C]."""
        return self.linear((features - self.mean) / self.deviation)


class AdapterHead(Head):
    """A linear adapter to `adapted` directions of length 1, and a linear map of them.

    Args:
        width: d.
        adapted: e, width of the adapted features.
        classes: C.
        dropout: of the features, in training.
        scale: of the adapted features before the linear map.
        key: of the stream of the first weights.
    """

    def __init__(
        self,
        *,
        width: int,
        adapted: int,
        classes: int,
        dropout: float = 0.0,
        scale: float = 1.0,
        key: int = 0,
    ) -> None:
        super().__init__(width=width, adapted=adapted, classes=classes, dropout=dropout, scale=scale, key=key)
        self.dropout, self.scale = dropout, scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key >> 1)
            self.adapter = nn.Linear(width, adapted)
            self.linear = nn.Linear(adapted, classes)

    def adapt(self, features: torch.Tensor) -> torch.Tensor:
        """Return the adapted features [N, e], of length 1."""
        return functional.normalize(self.adapter(features), dim=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [N, C]."""
        return self.linear(self.scale * self.adapt(features))


class MlpHead(Head):
    """A multi-layer perceptron of standardised features, with ReLU and dropout.

    Args:
        width: d.
        hidden: widths of the hidden layers.
        classes: C.
        dropout: after each hidden layer, in training.
        key: of the stream of the first weights.

    Attributes:
        mean, deviation: [d], taken off the features and divided by; 0 and 1 unless they are set.
        layers: the perceptron.
    """

    def __init__(
        self, *, width: int, hidden: list[int], classes: int, dropout: float = 0.0, key: int = 0
    ) -> None:
        super().__init__(width=width, hidden=list(hidden), classes=classes, dropout=dropout, key=key)
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key >> 1)
            for size in hidden:
                layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
                width = size
            layers.append(nn.Linear(width, classes))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [N, C]."""
        return self.layers((features - self.mean) / self.deviation)


class OneVersusAllHead(Head):
    """Linear machines, one a class against all others; none need claim an item.

    A machine's score s is above 0 where it claims an item; its logit is that of `shared_out`.

    Args:
        width: d.
        classes: C.

    Attributes:
        linear: the machines; start at zero.
    """

    def __init__(self, *, width: int, classes: int) -> None:
        super().__init__(width=width, classes=classes)
        self.linear = _zero_linear(width, classes)

    def margins(self, features: torch.Tensor) -> torch.Tensor:
        """Return the scores s [N, C]."""
        return self.linear(features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [N, C]."""
        return shared_out(self.margins(features))


def shared_out(scores: torch.Tensor) -> torch.Tensor:
    """Return log sigmoid(3 s) of scores s [N, C] of machines of one class against all others.

    `softmax` of it shares the classes out among machines of which several or none claim an item.
    """
    return functional.logsigmoid(SLOPE * scores)
