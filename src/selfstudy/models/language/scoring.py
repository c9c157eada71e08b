"""Log-probabilities of given texts: padding, batches by length, and the sums that training differentiates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.data.problem_images import ProblemImage
from selfstudy.models.language.images import Inputs, joined, look_at
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.packed_texts import Packing
from selfstudy.models.language.training_pass import can_train, packed_logits

Tokens = tuple[list[int], int] | tuple[list[int], int, Inputs]
"""The tokens of a prompt and its completion, the place where this begins, and what the module is given of the
prompt's images where it has some."""
BATCH_TOKENS = 8192  # tokens of one forward pass, padding included


def pad_right(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> torch.Tensor:
    """Return [B, L], filled with token 0 on the right: a causal model never looks there from a real token.

    >>> pad_right([[1, 2, 3], [4]]).tolist()
    [[1, 2, 3], [4, 0, 0]]
    """
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.long, device=device)


def batches_by_length(lengths: Sequence[int], tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield indices, longest first, in batches of at most `tokens` tokens with padding (at least one row).

    >>> list(batches_by_length([1, 5, 4], tokens=10))
    [[1, 2], [0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batch: list[int] = []
    for i in order:
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def pair_tokens(
    model: LanguageModel,
    pairs: Sequence[tuple[str, str | tuple[int, ...]]],
    *,
    end: bool,
    images: Sequence[Sequence[ProblemImage]] = (),
) -> list[Tokens]:
    """Return (tokens, start) of each (prompt, completion); the completion begins at `start`.

    Args:
        model: gives the tokenizer.
        pairs: texts; a completion may be tokens as they were drawn, which stay as they are.
        end: add the end token to a completion that is a text, where the tokenizer has one.
        images: that each prompt shows; empty where none does. What the module is given of them comes third.

    Raises:
        DataError: a prompt without tokens.
    """
    seen = look_at(model, [prompt for prompt, _ in pairs], images or [()] * len(pairs))
    texts = model.encode_all([said for _, said in pairs if isinstance(said, str)], begins=False)
    tail = [model.end] if end and model.end is not None else []
    read = iter(texts)
    completions = [next(read) + tail if isinstance(said, str) else list(said) for _, said in pairs]
    for (text, _), one in zip(pairs, seen, strict=True):
        if not one.tokens:
            raise DataError(
                f"The prompt {text!r} has no tokens, so nothing can be learned or scored after it."
            )
    rows: list[Tokens] = []
    for one, rest in zip(seen, completions, strict=True):
        whole, start = [*one.tokens, *rest], len(one.tokens)
        rows.append((whole, start, one.inputs) if one.inputs else (whole, start))
    return rows


def completion_logprobs(module: torch.nn.Module, sequences: Sequence[Tokens]) -> torch.Tensor:
    """Return [B] sums of log p(token | all before it) over the tokens from `start` on; differentiable."""
    if can_train(module) and not any(len(row) > 2 for row in sequences):
        return _packed_logprobs(module, sequences)
    logits, tokens, counted = completion_logits(module, sequences)
    # Token by token: with the vocabulary in the middle, a large one takes twice to three times as long.
    nll = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
    return -(nll * counted).sum(1)


def _packed_logprobs(module: torch.nn.Module, sequences: Sequence[Tokens]) -> torch.Tensor:
    """See `completion_logprobs`, without padding; a last token is not read, for nothing follows."""
    packing = Packing()
    counts = [len(packing.add(row[0][:-1], after=row[1] - 1)) for row in sequences]
    tokens = torch.tensor([token for row in sequences for token in row[0][row[1] :]])
    logp = -F.cross_entropy(packed_logits(module, packing.done()), tokens, reduction="none")
    owner = torch.arange(len(sequences)).repeat_interleave(torch.tensor(counts))
    return logp.new_zeros(len(sequences)).index_add(0, owner, logp)


def completion_logits(
    module: torch.nn.Module, sequences: Sequence[Tokens]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits [B, T, V] (float32), the tokens [B, T] that followed, and which belong to a completion.

    The T columns are those from the earliest `start` on, the same ones for all rows.
    """
    device = next(module.parameters()).device
    tokens = pad_right([row[0] for row in sequences], device)  # [B, L]
    column = torch.arange(tokens.shape[1], device=device)
    starts = torch.tensor([row[1] for row in sequences], device=device)
    lengths = torch.tensor([len(row[0]) for row in sequences], device=device)
    counted = (column >= starts[:, None]) & (column < lengths[:, None])
    first = int(starts.min())
    # Logits only where some row needs them: with large vocabularies they are most of the memory. Places, not
    # their number: a slice of the hidden states is not contiguous, and torch then copies the vocabulary
    # layer for each row.
    keep = torch.arange(first - 1, tokens.shape[1] - 1, device=device)
    # A last token is not read, for nothing follows: a text may be one token longer than the context.
    read = tokens[:, : max(int(starts.max()), tokens.shape[1] - 1)]
    seen: list[Inputs] = [row[2] if len(row) > 2 else {} for row in sequences]
    images = joined(seen, read.shape[1], device) if any(seen) else {}
    logits = module(input_ids=read, use_cache=False, logits_to_keep=keep, **images).logits
    return logits.float(), tokens[:, first:], counted[:, first:]


def sequence_logprobs(
    model: LanguageModel, pairs: Sequence[tuple[str, str | tuple[int, ...]]], meter: Meter | None = None
) -> list[float]:
    """Return log p(completion | prompt) of each pair, natural logarithm, without an end token.

    Args:
        model: scores.
        pairs: (prompt, completion), which may be tokens as drawn; an empty completion has 0.
        meter: charged all tokens read as scored tokens, and the FLOPs.

    Raises:
        DataError: a pair longer than the model's context, or a prompt without tokens.
    """
    sequences = pair_tokens(model, pairs, end=False)
    for tokens, *_ in sequences:
        if len(tokens) > model.context:
            raise DataError(
                f"A text of {len(tokens)} tokens is longer than the context of {model.context}. "
                "Shorten it, or take a model with a longer context."
            )
    meter = meter or Meter()
    out = np.zeros(len(pairs))
    with Inference(model.module):
        for batch in batches_by_length([len(row[0]) for row in sequences]):
            part = [sequences[i] for i in batch]
            read = sum(len(row[0]) for row in part)
            meter.charge(scored_tokens=read, flops=model.flops(read))
            out[batch] = completion_logprobs(model.module, part).double().cpu().numpy()
    return [float(value) for value in out]
