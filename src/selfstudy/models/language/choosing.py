"""Tokens from logits: the likeliest, or the inverse of the distribution function at a number."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK = 512  # tokens; a large vocabulary is searched block by block


def choose(
    logits: torch.Tensor,
    temperature: torch.Tensor,
    row: torch.Tensor,
    uniform: torch.Tensor,
    top_p: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one token a draw, int64 [N], and its log-probability at temperature 1, float64 [N].

    Where logits are on a GPU, the rest is better not: what is decided by it then waits for nothing.

    Args:
        logits: [B, V].
        temperature: [B]; 0 takes the likeliest token, of equals the first.
        row: [N] of which row each draw is.
        uniform: float64 [N] in [0, 1): where the distribution function, tokens in their order, is inverted.
        top_p: [B], draw among the likeliest tokens with this share together alone; None is 1 everywhere.
    """
    if top_p is not None:
        kept = _nucleus(logits, temperature.to(logits.device), top_p.to(logits.device))
        token, logprob = choose(kept, temperature, row, uniform)
        # So far among the kept tokens; theirs among all is their share at temperature 1.
        share = kept.double().logsumexp(-1) - logits.double().logsumexp(-1)
        return token, logprob + share[row.to(logits.device)]
    compiled = logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.bfloat16)
    return (_by_compiled_loops if compiled else _by_torch)(logits, temperature, row, uniform)


def _nucleus(logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Return the logits with -inf but for the fewest, likeliest tokens that reach `top_p` together.

    Of equally likely ones the first is taken first (Holtzman et al., 2020).
    """
    divisor = temperature.masked_fill(temperature == 0, 1.0)[:, None]
    likeliest = (logits.double() / divisor).softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = likeliest.values.cumsum(-1) - likeliest.values
    cut = (before >= top_p[:, None]) & (top_p < 1)[:, None]
    return logits.masked_fill(cut.scatter(-1, likeliest.indices, cut), -torch.inf)


def _by_compiled_loops(
    logits: torch.Tensor, temperature: torch.Tensor, row: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    from selfstudy.models.language import kernels  # only here, for the compiler's import takes half a second

    logits = logits.contiguous()
    bits = logits if logits.dtype == torch.float32 else logits.view(torch.uint16)
    token, logprob = torch.empty_like(row), torch.empty_like(uniform)
    given = (each.numpy() for each in (bits, temperature, row, uniform))
    kernels.choose(*given, BLOCK, token.numpy(), logprob.numpy())
    return token, logprob


def _by_torch(
    logits: torch.Tensor, temperature: torch.Tensor, row: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.float()
    top, likeliest = logits.max(-1)
    weight = (logits - top[:, None]).exp_()  # in place: fresh memory of this size is slow
    log_total = weight.sum(-1, dtype=torch.float64).log()
    greedy, row = temperature == 0, row.to(logits.device)
    token = likeliest[row]
    if not bool(greedy.all()):
        if bool(((temperature != 1) & ~greedy).any()):
            divisor = temperature.masked_fill(greedy, 1.0).float().to(logits.device)[:, None]
            weight = torch.sub(logits, top[:, None], out=weight).div_(divisor).exp_()
        drawn = _invert(weight, row, uniform.to(logits.device))
        token = torch.where(greedy.to(logits.device)[row], token, drawn)
    chosen = (logits[row, token] - top[row]).double()
    return token, chosen - log_total[row]


def _invert(weight: torch.Tensor, row: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return for each draw the first token at which the running sum of its row's weights passes `uniform`."""
    count = weight.shape[1]
    if count <= BLOCK:
        inside = weight.double().cumsum(-1)[row]
        return _first_past(inside, uniform[:, None] * inside[:, -1:])[:, 0]
    blocks = -(-count // BLOCK)
    weight = F.pad(weight, (0, blocks * BLOCK - count)).view(len(weight), blocks, BLOCK)
    sums = weight.sum(-1, dtype=torch.float64)
    ends = sums.cumsum(-1)  # [B, blocks]
    target = uniform[:, None] * ends[row, -1:]
    block = torch.searchsorted(ends[row], target, right=True).clamp_(max=blocks - 1)  # [N, 1]
    inside = weight[row, block[:, 0]].double().cumsum(-1)  # [N, BLOCK]
    rest = target - (ends - sums)[row].gather(-1, block)
    return (block * BLOCK + _first_past(inside, rest))[:, 0]


def _first_past(sums: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return where running sums [N, V] first pass the target [N, 1], [N, 1]."""
    # Rounding may carry the target past the last token that has any weight.
    last = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(sums, target, right=True), last)
