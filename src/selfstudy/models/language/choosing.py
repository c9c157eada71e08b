"""One token a row from its logits: the likeliest, or the inverse of the distribution function at a number."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK = 512  # tokens; a large vocabulary is searched block by block


def choose(
    logits: torch.Tensor, temperature: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a token a row, int64 [B], and its log-probability at temperature 1, float64 [B].

    Args:
        logits: [B, V].
        temperature: [B]; 0 takes the likeliest token, of equals the first.
        uniform: float64 [B] in [0, 1): where the distribution function, tokens in their order, is inverted.
    """
    logits = logits.float()
    top, likeliest = logits.max(-1)
    weight = (logits - top[:, None]).exp_()  # in place: fresh memory of this size is slow
    log_total = weight.sum(-1, dtype=torch.float64).log()
    greedy = temperature == 0
    token = likeliest
    if not bool(greedy.all()):
        if bool(((temperature != 1) & ~greedy).any()):
            divisor = temperature.masked_fill(greedy, 1.0).float()[:, None]
            weight = torch.sub(logits, top[:, None], out=weight).div_(divisor).exp_()
        token = torch.where(greedy, likeliest, _invert(weight, uniform))
    chosen = (logits.gather(-1, token[:, None])[:, 0] - top).double()
    return token, chosen - log_total


def _invert(weight: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return for each row of weights [B, V] the first token at which their running sum passes uniform [B]."""
    count = weight.shape[1]
    blocks = -(-count // BLOCK)
    if blocks > 1:
        weight = F.pad(weight, (0, blocks * BLOCK - count))
    weight = weight.view(len(weight), blocks, -1)
    sums = weight.sum(-1, dtype=torch.float64)  # [B, blocks]
    ends = sums.cumsum(-1)
    target = uniform[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp_(max=blocks - 1)  # [B, 1]
    row = torch.arange(len(weight), device=weight.device)
    inside = weight[row, block[:, 0]].double().cumsum(-1)  # [B, BLOCK]
    rest = target - (ends - sums).gather(-1, block)
    token = torch.searchsorted(inside, rest, right=True)
    # Rounding may carry the target past the last token that has any weight.
    last = (inside < inside[:, -1:]).sum(-1, keepdim=True)
    return (block * inside.shape[1] + torch.minimum(token, last))[:, 0]
