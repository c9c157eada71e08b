"""One layer of attention and its decoder, as two matrices over pairs of tokens.

Tian, Wang, Chen, Du 2023, arXiv 2305.16380. The model of the analysis has no embeddings and no positions:
`Z[l, m]` is the attention logit of key token l under query token m, and `Y[n, l]` what token l says for
next token n.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.models.small import SmallModel
from selfstudy.models.token_pairs import Block, Pairs

LARGEST = 20_000  # tokens of a vocabulary whose matrices are kept whole: 1.6 GB each in float32
HIDDEN = torch.finfo(torch.float32).min  # score of a key that a query may not see


class AttentionDecoder(SmallModel):
    """The attention layer of Tian et al. (2023), without positions and embeddings.

        a = softmax over keys t of Z[x_t, x_q],  u = sum of a_t e(x_t),  u <- u / |u|,  logits = Y u

    Args:
        vocabulary: M, tokens.
        width: inner size of `Y = Y_post Y_pre` and `Z = Z_post Z_pre`; 0 keeps both whole.
        layers: blocks, with a ReLU between them; more than one needs `residual` or `include_query`.
        residual: the query's own token is added to u before it is normalised.
        include_query: the query is a key of its own.
        normalize: u has length 1; stands for the layer norm. Without it the decoder's rate changes with
            the sparsity of attention.
        spread: standard deviation of first weights; at 0 all attention is uniform and all logits are 0.
        seed: names the first weights.

    Raises:
        UsageError: a size below its least, or matrices too large to be kept whole.
    """

    kind: ClassVar[str] = "attention-decoder"

    def __init__(
        self,
        *,
        vocabulary: int = 34,
        width: int = 0,
        layers: int = 1,
        residual: bool = False,
        include_query: bool = False,
        normalize: bool = True,
        spread: float = 0.0,
        seed: int = 0,
    ) -> None:
        _check(vocabulary, width, layers, residual or include_query, spread)
        super().__init__(
            vocabulary=vocabulary,
            width=width,
            layers=layers,
            residual=residual,
            include_query=include_query,
            normalize=normalize,
            spread=spread,
            seed=seed,
        )
        self.vocabulary, self.normalize = vocabulary, normalize
        self.residual, self.include_query = residual, include_query
        generator = self.generator()
        self.blocks = nn.ModuleList(Block(vocabulary, width, spread, generator) for _ in range(layers))

    @property
    def attention(self) -> Pairs:
        """Z of the first layer."""
        return self._first.attention

    @property
    def decoder(self) -> Pairs:
        """Y of the first layer."""
        return self._first.decoder

    @property
    def _first(self) -> Block:
        block = self.blocks[0]
        assert isinstance(block, Block)
        return block

    def weigh(self, tokens: torch.Tensor, queries: int = 1) -> torch.Tensor:
        """Return the first layer's attention of the last `queries` positions, [B, queries, T].

        Args:
            tokens: [B, T] of ids.
            queries: how many.

        Raises:
            UsageError: a query would have no key.
        """
        self._require_keys(tokens, queries)
        scores = self.attention.of_tokens(tokens, tokens[:, -queries:])
        return self._softmax(scores)

    def forward(self, tokens: torch.Tensor, queries: int = 1) -> torch.Tensor:
        """Return the logits of the token after each of the last `queries` positions, [B, queries, M].

        Args:
            tokens: [B, T] of ids.
            queries: how many.

        Raises:
            UsageError: a query would have no key.
        """
        self._require_keys(tokens, queries)
        # Lower layers are needed wherever a higher one looks.
        asked = tokens[:, -queries:] if len(self.blocks) == 1 else tokens
        weights = self._mixed(self.attention.of_tokens(tokens, asked))  # [B, Q, T]
        # Y of the sum is the sum of Y's columns: nothing of size M a key is ever multiplied by a matrix.
        said = weights @ self.decoder.rows(tokens)
        if self.normalize:
            bag = weights.new_zeros(*asked.shape, self.vocabulary)
            bag = bag.scatter_add(2, tokens[:, None].expand_as(weights), weights)
            said = said / bag.norm(dim=-1, keepdim=True)
        x = self.decoder.finish(said)
        for block in self.blocks[1:]:
            x = F.relu(x)
            u = self._mixed(block.attention.of_vectors(x, x)) @ x  # type: ignore[operator,union-attr]
            x = block.decoder(F.normalize(u, dim=-1) if self.normalize else u)  # type: ignore[operator]
        return x[:, -queries:]

    def _mixed(self, scores: torch.Tensor) -> torch.Tensor:
        """Return by how much each query takes each position in, [B, Q, T]."""
        weights = self._softmax(scores)
        queries, length = weights.shape[1:]
        return weights + torch.eye(length, device=weights.device)[-queries:] if self.residual else weights

    def _softmax(self, scores: torch.Tensor) -> torch.Tensor:
        """Return attention [B, Q, T] over the keys before each query; all 0 where there is none."""
        queries, length = scores.shape[1:]
        places = torch.arange(length, device=scores.device)
        seen = places < places[-queries:, None] + (1 if self.include_query else 0)
        return scores.masked_fill(~seen, HIDDEN).softmax(-1) * seen

    def _require_keys(self, tokens: torch.Tensor, queries: int) -> None:
        length = tokens.shape[1]
        most = length if self.include_query else length - 1
        if not 1 <= queries <= most:
            raise UsageError(
                f"Sequences of {length} tokens have {max(most, 0)} places with a token to attend to, but "
                f"{queries} are asked for. Give longer sequences, or a model with include_query=true."
            )


def require_decoder(model: Any, task: Any) -> None:
    """Refuse a model that cannot work on `task`, which has a `name` and a `vocabulary`.

    Raises:
        UsageError: it is of another kind, or of another vocabulary; says which one fits.
    """
    size = task.vocabulary
    fits = f"attention-decoder?vocabulary={size}" + ("&width=64" if size > 1000 else "")
    if not isinstance(model, AttentionDecoder):
        what = getattr(model, "name", type(model).__name__)
        raise UsageError(f"The task {task.name!r} needs a model of tokens, not {what!r}: --model {fits!r}.")
    if model.vocabulary != size:
        raise UsageError(
            f"The model has a vocabulary of {model.vocabulary} tokens, the task {task.name!r} one of {size}. "
            f"Both must be the same: --model {fits!r}."
        )


def losses(model: AttentionDecoder, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each target, in nats.

    Args:
        model: predicts.
        tokens: [B, T] of ids.
        targets: [B, Q], the tokens after the last Q positions.
    """
    logits = model(tokens, targets.shape[1])
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def _check(vocabulary: int, width: int, layers: int, defined: bool, spread: float) -> None:
    if vocabulary < 2 or width < 0 or layers < 1:
        raise UsageError(
            f"An attention-decoder needs a vocabulary of at least 2, a width of at least 0 and a layer; "
            f"given: vocabulary={vocabulary}, width={width}, layers={layers}."
        )
    if vocabulary > LARGEST and not width:
        raise UsageError(
            f"Matrices of {vocabulary} x {vocabulary} weights are too large to be kept whole (at most "
            f"{LARGEST} tokens). Give a width, such as width=200."
        )
    if layers > 1 and not defined:
        raise UsageError(
            f"With layers={layers} the first position needs something to hand on: give residual=true or "
            "include_query=true."
        )
    if not math.isfinite(spread) or spread < 0:
        raise UsageError(f"spread is {spread}; it must be 0 or more.")
