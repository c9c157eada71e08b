"""Tokens drawn from what is known, before anything is computed.

A search asks again what follows a text: it draws more samples of a state, or expands one that a look-ahead
has been through. Where a memory of prefixes keeps the hidden state at every token, what follows a known text
is known. So a request draws from there as long as what it draws is known too; only then is it computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from selfstudy.core.random import uniforms
from selfstudy.models.language.choosing import choose
from selfstudy.models.language.drawing import Drawn, Row, ended, refuse
from selfstudy.models.language.prefix_tree import Way
from selfstudy.models.language.prefixes import PrefixCache
from selfstudy.models.language.stopping import GO_ON, LOOK

if TYPE_CHECKING:
    from selfstudy.models.language.sampling import TorchSampler


def follow(sampler: TorchSampler, cache: PrefixCache, rows: Sequence[Row], done: dict[int, Drawn]) -> None:
    """Let rows draw what they can, noting it in them; those that end are `done`.

    Args:
        sampler: whose requests these are.
        cache: with states; not read meanwhile.
        rows: any number, that have drawn nothing yet.
        done: what ends, by the place of its request.
    """
    ends = {row.request.prompt: row.prompt for row in rows}
    ways = {text: cache.end(np.array(tokens, dtype=np.int32)) for text, tokens in ends.items()}
    moving = [(row, way) for row in rows if (way := ways[row.request.prompt]) is not None]
    while moving:
        sampler.meter.charge(generated_tokens=len(moving))
        going = []
        most = sampler.model.engine.rows  # logits in memory at the same time
        for first in range(0, len(moving), most):
            part = moving[first : first + most]
            _draw(sampler, cache, part)
            for row, way in part:
                code = _code(sampler, row)
                if code != GO_ON or len(row.tokens) >= row.limit:
                    done[row.place] = ended(row, row.tokens, row.logprobs, code)
                elif (further := cache.onward(way, row.tokens[-1])) is not None:
                    going.append((row, further))
        moving = going


def _draw(sampler: TorchSampler, cache: PrefixCache, part: Sequence[tuple[Row, Way]]) -> None:
    """Add a token to each row, from the state where its text ends."""
    assert cache.states is not None
    at: dict[tuple[int, float], int] = {}
    number = [at.setdefault((way.slot, row.request.temperature), len(at)) for row, way in part]
    device = cache.states.device
    slots, temperature = (torch.tensor(each, device=device) for each in zip(*at, strict=True))
    keys = np.array([row.request.key & (2**64 - 1) for row, _ in part], dtype=np.uint64)
    places = np.array([len(row.tokens) for row, _ in part], dtype=np.uint64)
    drawn = torch.from_numpy(uniforms(keys, places)).to(device)
    logits = cache.decoder.logits(cache.states[slots])
    chosen = choose(logits, temperature, torch.tensor(number, device=device), drawn)
    for (row, _), token, logprob in zip(part, *(each.tolist() for each in chosen), strict=True):
        if not math.isfinite(logprob):
            refuse(sampler, row, len(row.tokens) + 1)
        row.tokens.append(token)
        row.logprobs.append(logprob)


def _code(sampler: TorchSampler, row: Row) -> int:
    """Tell whether the last token ends a row; see `stopping`."""
    code = int(sampler.stopping.table(row.request.stop)[row.tokens[-1]])
    if code == LOOK:
        return sampler.stopping.looked(row.tokens, row.request.stop)
    return code
