"""Tokens from logits: the likeliest, or the inverse of the distribution function at a number."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK = 512  # tokens; a large vocabulary is searched block by block
PART = 8 * BLOCK  # tokens that are looked at together, so that what is computed of them stays in the cache


def choose(
    logits: torch.Tensor, temperature: torch.Tensor, row: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one token a draw, int64 [N], and its log-probability at temperature 1, float64 [N].

    Args:
        logits: [B, V].
        temperature: [B]; 0 takes the likeliest token, of equals the first.
        row: [N] of which row each draw is.
        uniform: float64 [N] in [0, 1): where the distribution function, tokens in their order, is inverted.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and logits.shape[1] <= BLOCK:
        return _choose_compiled(logits, temperature, row, uniform)
    top, likeliest = _likeliest(logits)  # [B]
    sums = _block_sums(logits, top, None)
    log_total = sums.sum(-1).log()
    greedy = temperature == 0
    token = likeliest[row]
    if not bool(greedy.all()):
        divisor = None
        if bool(((temperature != 1) & ~greedy).any()):
            divisor = temperature.masked_fill(greedy, 1.0).float()
        token = torch.where(greedy[row], token, _invert(logits, top, divisor, sums, row, uniform))
    chosen = (logits[row, token].float() - top[row]).double()
    return token, chosen - log_total[row]


def _choose_compiled(
    logits: torch.Tensor, temperature: torch.Tensor, row: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    from selfstudy.models.language import kernels  # only here, for the compiler's import takes half a second

    token, logprob = torch.empty_like(row), torch.empty_like(uniform)
    kernels.choose(*(each.numpy() for each in (logits, temperature, row, uniform, token, logprob)))
    return token, logprob


def _likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest logit of each row, float32 [B], and the first token that has it, int64 [B]."""
    if logits.shape[1] <= PART:
        top, token = logits.max(-1)
        return top.float(), token
    # Where the largest lies takes several times as long to find as how large it is.
    tops = torch.stack([part.amax(-1) for part in logits.split(PART, -1)], -1)  # [B, parts]
    top, part = tops.max(-1, keepdim=True)
    inside = _piece(logits, torch.arange(len(logits), device=logits.device), part * PART, PART)
    return top[:, 0].float(), part[:, 0] * PART + inside.argmax(-1)


def _block_sums(logits: torch.Tensor, top: torch.Tensor, divisor: torch.Tensor | None) -> torch.Tensor:
    """Return the sum of the weights of each block of tokens, float64 [B, blocks]."""
    if logits.shape[1] <= BLOCK:
        return _weights(logits, top, divisor).sum(-1, keepdim=True, dtype=torch.float64)
    sums = []
    for part in logits.split(PART, -1):
        weight = _weights(part, top, divisor)
        if short := -weight.shape[1] % BLOCK:
            weight = F.pad(weight, (0, short))
        sums.append(weight.unflatten(-1, (-1, BLOCK)).sum(-1, dtype=torch.float64))
    return torch.cat(sums, -1)


def _weights(logits: torch.Tensor, top: torch.Tensor, divisor: torch.Tensor | None) -> torch.Tensor:
    """Return exp((logits - top) / divisor), float32 [N, X]."""
    below = logits.float() - top[:, None]
    return (below if divisor is None else below.div_(divisor[:, None])).exp_()


def _invert(
    logits: torch.Tensor,
    top: torch.Tensor,
    divisor: torch.Tensor | None,
    sums: torch.Tensor,
    row: torch.Tensor,
    uniform: torch.Tensor,
) -> torch.Tensor:
    """Return for each draw the first token at which the running sum of its row's weights passes `uniform`.

    `sums` are those of blocks, at temperature 1, [B, blocks].
    """
    if logits.shape[1] <= BLOCK:
        inside = _weights(logits, top, divisor).double().cumsum(-1)[row]
        return _first_past(inside, uniform[:, None] * inside[:, -1:])[:, 0]
    if divisor is not None:
        sums = _block_sums(logits, top, divisor)
    ends = sums.cumsum(-1)  # [B, blocks]
    target = uniform[:, None] * ends[row, -1:]
    block = _first_past(ends[row], target)  # [N, 1]
    rest = target - (ends - sums)[row].gather(-1, block)
    inside = _piece(logits, row, block * BLOCK, BLOCK)
    weight = _weights(inside, top[row], None if divisor is None else divisor[row])
    inside = weight.double().cumsum(-1)  # [N, BLOCK]
    return (block * BLOCK + _first_past(inside, rest))[:, 0]


def _piece(logits: torch.Tensor, row: torch.Tensor, first: torch.Tensor, count: int) -> torch.Tensor:
    """Return `count` logits of each row [N] from token `first` [N, 1] on; -inf past the last token."""
    token = first + torch.arange(count, device=logits.device)
    piece = logits[row[:, None], token.clamp(max=logits.shape[1] - 1)]
    return piece.masked_fill_(token >= logits.shape[1], -torch.inf)


def _first_past(sums: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return where running sums [N, V] first pass the target [N, 1], [N, 1]."""
    # Rounding may carry the target past the last token that has any weight.
    last = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(sums, target, right=True), last)
