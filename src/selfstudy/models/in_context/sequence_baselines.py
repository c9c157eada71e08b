"""What a transformer's learning in context is compared with: an LSTM, fast weights and an MLP.

Kirsch et al. 2022, arXiv 2212.04458, whose point is that models differ by the state they carry from past
examples to the present, and not by their weights. An LSTM carries its state, and fast weights a matrix that
an LSTM writes. The MLP carries all tokens as they are, but has nothing that looks one up by its content.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from selfstudy.models.in_context.sequences import SequenceModel


class SequenceLstm(SequenceModel):
    """Layers of LSTM over the same tokens: what it knows of the past is a state of fixed size.

    Args:
        inputs: m'.
        classes: C.
        layers: of cells.
        width: of tokens and hidden states.
        positions: most examples of a sequence, for the same limits as the transformer's.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "sequence-lstm"

    def __init__(
        self,
        *,
        inputs: int = 64,
        classes: int = 5,
        layers: int = 1,
        width: int = 200,
        positions: int = 31,
        seed: int = 0,
    ) -> None:
        super().__init__(
            inputs=inputs, classes=classes, layers=layers, width=width, positions=positions, seed=seed
        )
        self._ends(width)
        self.cells = nn.LSTM(width, width, layers, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self._draw_weights()
        open_forget_gates(self.cells)

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(self.cells(tokens)[0])

    def accessible_state(self, context: int) -> int:
        """Return the numbers in hidden states and cells, 2 * layers * width, however long the context."""
        del context  # the state does not grow with it
        return 2 * self.cells.num_layers * self.width


class SequenceFastWeights(SequenceModel):
    """Layers of LSTM, each of which writes to a matrix of fast weights by outer products and reads from it.

    Args:
        inputs: m'.
        classes: C.
        layers: of cells with a matrix each.
        width: of tokens, hidden states, keys and values.
        positions: most examples of a sequence, for the same limits as the transformer's.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "sequence-fast-weights"

    def __init__(
        self,
        *,
        inputs: int = 64,
        classes: int = 5,
        layers: int = 1,
        width: int = 115,
        positions: int = 31,
        seed: int = 0,
    ) -> None:
        super().__init__(
            inputs=inputs, classes=classes, layers=layers, width=width, positions=positions, seed=seed
        )
        self._ends(width)
        writers = [_Writer(width) for _ in range(layers)]
        self.layers = nn.ModuleList(writers)
        self.norm = nn.LayerNorm(width)
        self._draw_weights()
        for writer in writers:
            open_forget_gates(writer.cells)

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens)

    def accessible_state(self, context: int) -> int:
        """Return the numbers in states and matrices, layers * (2 width + width^2), whatever the context."""
        del context  # the state does not grow with it
        return len(self.layers) * (2 * self.width + self.width**2)


class _Writer(nn.Module):
    """An LSTM whose outputs are keys, values, queries and rates of fast weights; what is read is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cells = nn.LSTM(width, width, batch_first=True)
        self.write = nn.Linear(width, 3 * width + 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.cells(tokens)[0]
        width = hidden.shape[-1]
        query, key, value, rate = self.write(hidden).split([width, width, width, 1], -1)
        query, key = functional.normalize(query, dim=-1), functional.normalize(key, dim=-1)
        return hidden + delta_rule(query, key, value, rate.sigmoid())


def open_forget_gates(cells: nn.LSTM) -> None:
    """Let forget gates start open, or nothing of the first examples is left (Jozefowicz et al. 2015)."""
    width = cells.hidden_size
    with torch.no_grad():
        for layer in range(cells.num_layers):
            getattr(cells, f"bias_ih_l{layer}")[width : 2 * width].fill_(1.0)


def delta_rule(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rate: torch.Tensor
) -> torch.Tensor:
    """Read W_j q_j, where W_j = W_(j-1) + r_j (v_j - W_(j-1) k_j) k_j^T are the fast weights, W_0 = 0.

    Schlag et al. 2021, arXiv 2102.11174. W_j is a sum of u_i k_i^T for i up to j, and the u solve a
    triangular system, u_j + r_j sum_(i<j) (k_i . k_j) u_i = r_j v_j (Yang et al. 2024, arXiv 2406.06484), so
    that all positions are read at once.

    Args:
        query: [B, L, d].
        key: [B, L, d], of length 1.
        value: [B, L, e].
        rate: [B, L, 1], between 0 and 1.

    Returns:
        [B, L, e].
    """
    alike = (rate * (key @ key.transpose(-2, -1))).tril(-1)  # the diagonal is taken as 1
    written = torch.linalg.solve_triangular(alike, rate * value, upper=False, unitriangular=True)
    return (query @ key.transpose(-2, -1)).tril() @ written


class SequenceMlp(SequenceModel):
    """A plain MLP on the history up to a position, flattened; the same weights at all positions.

    The history is as long as `positions`, ends with the token of the position, and starts with zeros.

    Args:
        inputs: m'.
        classes: C.
        layers: hidden ones, with GELU.
        width: of the hidden layers.
        token: width of a token, narrow because the first layer has positions * token * width weights.
        positions: N + 1, which bounds the context for good.
        seed: of the first weights.
    """

    kind: ClassVar[str] = "sequence-mlp"

    def __init__(
        self,
        *,
        inputs: int = 64,
        classes: int = 5,
        layers: int = 2,
        width: int = 136,
        token: int = 32,
        positions: int = 31,
        seed: int = 0,
    ) -> None:
        super().__init__(
            inputs=inputs,
            classes=classes,
            layers=layers,
            width=width,
            token=token,
            positions=positions,
            seed=seed,
        )
        self._ends(width, token)
        sizes = [positions * token, *[width] * layers]
        self.hidden = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.norm = nn.LayerNorm(width)
        self._draw_weights()

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(tokens, (0, 0, self.positions - 1, 0))
        known = padded.unfold(1, self.positions, 1).flatten(2)  # [B, L, token * positions]
        for layer in self.hidden:
            known = functional.gelu(layer(known))
        return self.norm(known)

    def accessible_state(self, context: int) -> int:
        """Return the numbers in the tokens of the past, N * token."""
        return context * self.config["token"]
