"""Log-probabilities of several answers to one prompt, which is read once for all of them.

The answers stand one after the other in one row; each sees the prompt and itself, at the positions that it
would have alone. What is saved are the operations on repeated prompts; what it costs, where transformers'
module reads the row, is attention over the whole of it. Only for decoders whose layers all look at everything
before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from selfstudy.models.language.images import Inputs, joined
from selfstudy.models.language.packed_texts import Packing
from selfstudy.models.language.scoring import pad_right
from selfstudy.models.language.training_pass import can_train, packed_logits

# What is known to attend by the mask and the positions that it is given.
KINDS = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")
# A pair in a row alone against one in a masked row: without a mask torch passes over what is not seen.
PAIR_ALONE = 1 / 3


@dataclass(frozen=True, slots=True)
class Answers:
    """A prompt and answers to it, as tokens."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    images: Inputs = field(default_factory=dict)
    """What the module is given of the prompt's images."""

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return len(self.prompt) + sum(map(len, self.answers))


def worth_sharing(module: torch.nn.Module, prompt: int, answers: Sequence[int]) -> bool:
    """Tell whether one row for all answers takes transformers' module less work than a row for each.

    Args:
        module: a causal language model.
        prompt: tokens of the prompt.
        answers: tokens of each answer.
    """
    config: Any = getattr(module, "config", None)
    if len(answers) < 2 or getattr(config, "model_type", None) not in KINDS:
        return False
    length = prompt + sum(answers)
    windows = [getattr(config, "sliding_window", None)] if _slides(config) else []
    if any(window is not None and window < length for window in windows):
        return False
    # Multiplications of a layer: 12 H^2 for a token of the linear maps (about), 2 H for a pair of attention.
    saved = (len(answers) - 1) * prompt * 12 * config.hidden_size
    pairs = length**2 - PAIR_ALONE * sum((prompt + one) ** 2 for one in answers)
    return saved > 2 * pairs


def _slides(config: Any) -> bool:
    kinds = getattr(config, "layer_types", None)
    return kinds is None or "sliding_attention" in kinds


def answer_logits(
    module: torch.nn.Module, units: Sequence[Answers]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits [B, T, V] (float32), the tokens [B, T] that they are of, and which of these there are.

    B counts the answers of all units in their order, T is the length of the longest; differentiable.
    """
    if can_train(module) and not any(unit.images for unit in units):
        return _packed(module, units)
    device = next(module.parameters()).device
    rows = pad_right([[*u.prompt, *(token for one in u.answers for token in one)] for u in units], device)
    # Logits only where some answer needs them: with large vocabularies they are most of the memory.
    first = min(len(unit.prompt) for unit in units) - 1
    keep = torch.arange(first, rows.shape[1], device=device)
    shared = any(len(unit.answers) > 1 for unit in units)
    layout = _layout(units, rows.shape[1], device, next(module.parameters()).dtype) if shared else {}
    if any(unit.images for unit in units):
        layout |= joined([unit.images for unit in units], rows.shape[1], device)
    logits = module(input_ids=rows, use_cache=False, logits_to_keep=keep, **layout).logits
    tokens = pad_right([one for unit in units for one in unit.answers], device)
    places, owners = _places(units, tokens.shape[1])
    lengths = torch.tensor([len(one) for unit in units for one in unit.answers], device=device)
    counted = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
    at = torch.tensor(places, device=device) - first
    return logits[torch.tensor(owners, device=device)[:, None], at].float(), tokens, counted


def _packed(
    module: torch.nn.Module, units: Sequence[Answers]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `answer_logits`, without padding; the last token of an answer is not read, for nothing follows."""
    packing = Packing()
    found: list[list[int]] = []
    for unit in units:
        if len(unit.answers) == 1:
            found.append(packing.add([*unit.prompt, *unit.answers[0][:-1]], after=len(unit.prompt) - 1))
            continue
        last = packing.add(unit.prompt, after=len(unit.prompt) - 1)
        stem = packing.last
        found += [last + packing.add(one[:-1], stem=stem) for one in unit.answers]
    tokens = pad_right([one for unit in units for one in unit.answers])
    counted = torch.arange(tokens.shape[1]) < torch.tensor([len(one) for one in found])[:, None]
    at = pad_right(found)
    logits = packed_logits(module, packing.done())
    return logits[at], tokens, counted


def _places(units: Sequence[Answers], longest: int) -> tuple[list[list[int]], list[int]]:
    """Return for each answer the places [T] in its row whose logits are of its tokens, and its row."""
    places, owners = [], []
    for row, unit in enumerate(units):
        start = end = len(unit.prompt)
        for one in unit.answers:
            # The prompt's last token tells of the first; what is beyond the answer is not looked at.
            own = [end - 1, *range(start, start + len(one) - 1)][: len(one)]
            places.append([*own, *[end - 1] * (longest - len(own))])
            owners.append(row)
            start += len(one)
    return places, owners


def _layout(
    units: Sequence[Answers], width: int, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Return positions [R, L], and the mask [R, 1, L, L] that is added to the products of attention."""
    part = torch.full((len(units), width), -1)  # 0: prompt, 1, 2, ...: answers, -1: padding
    positions = torch.zeros((len(units), width), dtype=torch.long)
    for row, unit in enumerate(units):
        end = len(unit.prompt)
        part[row, :end] = 0
        positions[row, :end] = torch.arange(end)
        start = end
        for number, one in enumerate(unit.answers, 1):
            part[row, start : start + len(one)] = number
            positions[row, start : start + len(one)] = torch.arange(end, end + len(one))
            start += len(one)
    same = part[:, :, None] == part[:, None, :]
    seen = (same | (part[:, None, :] == 0)) & torch.ones(width, width).tril().bool()
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
    return {"position_ids": positions.to(device), "attention_mask": mask[:, None].to(device)}
