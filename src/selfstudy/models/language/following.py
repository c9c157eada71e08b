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
    texts = {row.request.prompt: row.prompt for row in rows}
    ends = {text: cache.end(tokens) for text, tokens in texts.items()}
    known = [row for row in rows if ends[row.request.prompt] is not None]
    if known:
        _Following(sampler, cache, known).run(ends, done)


class _Following:
    """Rows that draw from what is known, all of them at once.

    Those that ask alike (temperature, top-p) what follows the same text are a party, as long as they draw
    the same.
    """

    def __init__(self, sampler: TorchSampler, cache: PrefixCache, rows: list[Row]) -> None:
        self.sampler, self.cache, self.rows = sampler, cache, rows
        self.keys = np.array([row.request.key & (2**64 - 1) for row in rows], dtype=np.uint64)
        self.limit = np.array([row.limit for row in rows])
        sets = {stops: i for i, stops in enumerate(dict.fromkeys(row.request.stop for row in rows))}
        self.stops = np.array([sets[row.request.stop] for row in rows])
        self.codes = np.stack([sampler.stopping.table(stops) for stops in sets])  # [sets of stop strings, V]

    def run(self, ends: dict[str, Way | None], done: dict[int, Drawn]) -> None:
        """Draw until all are done or at the end of what is known."""
        number: dict[tuple[str, float, float], int] = {}
        of_rows = [(row.request.prompt, row.request.temperature, row.request.top_p) for row in self.rows]
        party = np.array([number.setdefault(each, len(number)) for each in of_rows])  # of each row on its way
        ways = [way for text, *_ in number if (way := ends[text]) is not None]
        how = np.array([each for _, *each in number])  # temperature and top-p of each party, [P, 2]
        here, drawn = np.arange(len(self.rows)), 0
        while len(here):
            self.sampler.meter.charge(generated_tokens=len(here))
            token = self._draw(here, drawn, party, ways, how)
            drawn += 1
            code = self._codes(here, token)
            over = (code != GO_ON) | (drawn >= self.limit[here])
            for i, value in zip(here[over].tolist(), code[over].tolist(), strict=True):
                row = self.rows[i]
                done[row.place] = ended(row, row.tokens, row.logprobs, value)
            # A party parts into those that drew the same, of which some lead on.
            size = self.codes.shape[1]
            pairs, which = np.unique(party[~over] * size + token[~over], return_inverse=True)
            before = (pairs // size).tolist()
            onward = [
                self.cache.onward(ways[i], last)
                for i, last in zip(before, (pairs % size).tolist(), strict=True)
            ]
            leads = np.array([way is not None for way in onward], dtype=bool)
            here, party = here[~over][leads[which]], (leads.cumsum() - 1)[which[leads[which]]]
            ways = [way for way in onward if way is not None]
            how = how[pairs[leads] // size]

    def _draw(
        self, here: np.ndarray, drawn: int, party: np.ndarray, ways: list[Way], how: np.ndarray
    ) -> np.ndarray:
        """Add a token to each of these rows, from the state where its party is; return the tokens."""
        states, device = self.cache.states, self.cache.decoder.device
        assert states is not None
        tokens, logprobs = np.empty(len(here), dtype=np.int64), np.empty(len(here))
        uniform = uniforms(self.keys[here], drawn)
        most = self.sampler.model.engine.rows  # logits in memory at the same time
        for first in range(0, len(ways), most):
            part = np.flatnonzero((party >= first) & (party < first + most))
            slots = torch.tensor([way.slot for way in ways[first : first + most]], device=device)
            temperature, top_p = how[first : first + most].T.copy()
            given = [temperature, party[part] - first, uniform[part]]
            given += [top_p] if top_p.min() < 1 else []
            logits = self.cache.decoder.logits(states[slots])
            chosen = choose(logits, *(torch.from_numpy(each) for each in given))
            tokens[part], logprobs[part] = (each.cpu().numpy() for each in chosen)
        for i, token, logprob in zip(here.tolist(), tokens.tolist(), logprobs.tolist(), strict=True):
            row = self.rows[i]
            if not math.isfinite(logprob):
                refuse(self.sampler, row, drawn + 1)
            row.tokens.append(token)
            row.logprobs.append(logprob)
        return tokens

    def _codes(self, here: np.ndarray, token: np.ndarray) -> np.ndarray:
        """Tell which of these rows their last token ends; see `stopping`."""
        code = self.codes[self.stops[here], token]
        for i in np.flatnonzero(code == LOOK).tolist():
            row = self.rows[here[i]]
            code[i] = self.sampler.stopping.looked(row.tokens, row.request.stop)
        return code
