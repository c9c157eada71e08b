"""What attention came to look at: composition by token, masses, entropy, and when it stopped changing.

Tian, Wang, Chen, Du 2023, arXiv 2305.16380. All of it works on a table of pairs Z [M, M] with the
distribution of the data, or on the attention weights of any model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from selfstudy.core.errors import UsageError
from selfstudy.data.cooccurrence import Cooccurrence

FROZEN = 0.01  # change of the common mass below which attention counts as frozen


def attention_composition(logits: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return what attention is made of in a long sequence, c [K, M]; rows sum to 1.

        c[l | m, n] = P(l | m, n) exp(Z[l, m]) / sum over l' of P(l' | m, n) exp(Z[l', m])

    A token that never occurs has c = 0.

    >>> attention_composition(np.array([[0.0, np.log(3.0)]]), np.array([[0.5, 0.5]]))
    array([[0.25, 0.75]])

    Args:
        logits: [K, M], the column of Z of each class's last token m.
        probabilities: [K, M], P(l | m, n).

    Raises:
        UsageError: a logit is not finite.
    """
    logits = np.asarray(logits, dtype=float)
    if not np.isfinite(logits).all():
        raise UsageError("Attention logits that are not finite have no composition. Was the rate too large?")
    weights = probabilities * np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def class_logits(model: torch.nn.Module, table: Cooccurrence) -> np.ndarray:
    """Return the column of Z of each class's last token, [K, M], of a model with `attention.columns`."""
    tokens, places = np.unique(table.last, return_inverse=True)
    with torch.no_grad():
        columns = model.attention.columns(torch.from_numpy(tokens))  # type: ignore[operator,union-attr]
    return columns.double().numpy().T[places]


def entropy(shares: np.ndarray) -> np.ndarray:
    """Return the entropy over the last axis, in nats; 0 log 0 is 0.

    >>> entropy(np.array([0.5, 0.5, 0.0])).round(4)
    np.float64(0.6931)
    """
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)


def common_mass(composition: np.ndarray, table: Cooccurrence) -> np.ndarray:
    """Return the share of attention on common tokens, a figure a class, [K]."""
    return (composition * table.common).sum(-1)


def order_correlation(values: np.ndarray, table: Cooccurrence) -> float:
    """Return how far `values` of the distinct tokens are ordered as their co-occurrence is.

    Args:
        values: [K, M], such as the composition or the logits.
        table: says which tokens are distinct, and how often each comes.

    Returns:
        Spearman's correlation of values with P(l | m, n), the mean over classes with at least two distinct
        tokens that do not all come equally often; nan where there is none.
    """
    found = []
    for value, p, distinct in zip(values, table.probabilities, table.distinct, strict=True):
        value, p = value[distinct], p[distinct]
        if len(p) > 1 and np.ptp(p) > 0:
            # Equal values have no order at all, where scipy warns.
            found.append(float(spearmanr(value, p).statistic) if np.ptp(value) > 0 else 0.0)
    return float(np.mean(found)) if found else float("nan")


def freeze_step(steps: Sequence[float], masses: Sequence[float], tolerance: float = FROZEN) -> int:
    """Return the first of `steps` after which the mass stays within `tolerance` of what it is there.

    >>> freeze_step([0, 10, 20, 30], [0.6, 0.42, 0.405, 0.404], 0.02)
    10
    """
    values = np.asarray(masses, dtype=float)
    moved = [np.abs(values[i:] - values[i]).max() >= tolerance for i in range(len(values))]
    return int(steps[moved.index(False)])


def rank_advantage(logits: np.ndarray, table: Cooccurrence) -> np.ndarray:
    """Return by how much distinct tokens rank above common ones in attention, a figure a last token.

    Ranks are of Z[l, m] among the tokens that are distinct or common for m, from 0 (least attended) to 1.

    Args:
        logits: [K, M], as of `class_logits`.
        table: a token is common or distinct for m as in the classes of m.

    Returns:
        Mean rank of distinct minus mean rank of common tokens, for each last token that has both.
    """
    found = []
    for m in np.unique(table.last):
        rows = table.last == m
        common, distinct = table.common[rows].any(0), table.distinct[rows].any(0)
        either = common | distinct
        if common.any() and distinct.any() and not (common & distinct).any():
            ranks = (rankdata(logits[rows][0][either]) - 1) / max(1, either.sum() - 1)
            found.append(ranks[distinct[either]].mean() - ranks[common[either]].mean())
    return np.array(found)


# Probes of attention weights, of any model.


def attention_entropy(weights: torch.Tensor) -> torch.Tensor:
    """Return the entropy of attention weights [..., Q, K] over their keys, [..., Q], in nats.

    >>> attention_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([0.0000, 0.6931])
    """
    return torch.special.entr(weights).sum(-1)


def uniform_entropy(length: int, queries: int, include_query: bool = False) -> torch.Tensor:
    """Return the entropy of uniform attention at the last `queries` of `length` positions, [queries]."""
    keys = torch.arange(length - queries, length) + (1 if include_query else 0)
    return keys.clamp_min(1).double().log()


def token_masses(weights: torch.Tensor, tokens: torch.Tensor, table: Cooccurrence) -> dict[str, torch.Tensor]:
    """Return the attention weight on common and on distinct tokens of each query that the table knows.

    Args:
        weights: [..., B, Q, T], of the last Q positions.
        tokens: [B, T] of ids.
        table: its last tokens are the queries that are looked at.

    Returns:
        "common" and "distinct", each [..., B, Q]; nan at queries that are no last token of the table.
    """
    queries = tokens[:, -weights.shape[-2] :]  # [B, Q]
    known = np.unique(table.last)
    masses = {}
    for name, of in (("common", table.common), ("distinct", table.distinct)):
        which = np.zeros((table.vocabulary, table.vocabulary), dtype=bool)  # [m, l]
        np.logical_or.at(which, table.last, of)
        marked = torch.from_numpy(which)[queries[:, :, None], tokens[:, None]]  # [B, Q, T]
        mass = (weights * marked).sum(-1)
        masses[name] = mass.where(torch.isin(queries, torch.from_numpy(known)), torch.nan)
    return masses
