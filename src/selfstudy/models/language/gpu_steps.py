"""Steps of sampling on a GPU, each of them one launch: recorded once, and replayed (CUDA graphs).

A step of a small model is hundreds of kernels that take microseconds each, and a processor needs longer to
launch one than that. What is recorded reads its tokens from memory that stays where it is, so it serves every
step of as many rows, until weights change or texts become longer.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass

import numpy as np
import torch

from selfstudy.models.language.decoder import Decoder
from selfstudy.models.language.prefixes import PrefixCache

EVERY = 32  # more rows than these are recorded in multiples of this number, fewer in powers of two
TOKEN, POSITION, HERE, TEXT = range(4)  # columns of what a step is given; a text's slots are the rest


@dataclass
class _Step:
    """A step of a number of rows: what it is given, int32 [rows, TEXT + W], and what was recorded."""

    host: torch.Tensor
    given: torch.Tensor
    logits: torch.Tensor | None = None
    graph: torch.cuda.CUDAGraph | None = None


class RecordedSteps:
    """Steps of rows whose keys and values lie at slots of a cache on a GPU; see `SlotFlight`.

    Args:
        cache: where they lie.
    """

    def __init__(self, cache: PrefixCache) -> None:
        # Only here, for Triton comes with torch for GPUs alone.
        from selfstudy.models.language import gpu_kernels

        self._kernels, self._cache, self._decoder = gpu_kernels, cache, cache.decoder
        self._width, self._version = 0, self._decoder.version
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget what was recorded, and the memory that it shares."""
        self._by_rows: dict[int, _Step] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def copy(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy what lies at slots `source` to slots `target`, int64 [n] each."""
        here, there = (torch.from_numpy(slots).to(self._decoder.device) for slots in (source, target))
        for kept in self._cache.kept:
            kept[:, there] = kept[:, here]
        if self._cache.states is not None:
            self._cache.states[there] = self._cache.states[here]

    def logits(self, tokens: np.ndarray, positions: np.ndarray, slots: np.ndarray) -> torch.Tensor:
        """Feed one token a row; return the logits after it, [R, V], which hold until the next step.

        Args:
            tokens: int64 [R].
            positions: int64 [R] of the tokens in their texts.
            slots: int64 [R, W] where the tokens of each text lie, up to the new one.
        """
        rows, width = slots.shape
        step = self._step(recorded_rows(rows), width)
        host = step.host.numpy()
        host[:rows, TOKEN], host[:rows, POSITION] = tokens, positions
        host[:rows, HERE] = slots[np.arange(rows), positions]
        host[:rows, TEXT : TEXT + width] = slots
        host[rows:] = 0  # rows that stand in for none
        host[rows:, [HERE, TEXT]] = self._cache.nowhere
        step.given.copy_(step.host)
        if step.graph is not None:
            step.graph.replay()
        elif step.logits is None:  # rare numbers of rows are not worth recording
            step.logits = self._run(step.given)
        else:
            self._record(step)
        assert step.logits is not None
        return step.logits[:rows]

    def _step(self, rows: int, width: int) -> _Step:
        """Return the step for so many rows, texts of `width` tokens and the weights of now."""
        if width > self._width:
            self._width = 2 ** (width - 1).bit_length()
            self._begin_anew()
        self._decoder.reach(self._width)
        if self._version != self._decoder.version:
            self._version = self._decoder.version
            self._begin_anew()
        if rows not in self._by_rows:
            host = torch.zeros(rows, TEXT + self._width, dtype=torch.int32, pin_memory=True)
            self._by_rows[rows] = _Step(host, host.to(self._decoder.device))
        return self._by_rows[rows]

    def _record(self, step: _Step) -> None:
        step.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(step.graph, pool=self._pool):
            step.logits = self._run(step.given)
        step.graph.replay()

    def _run(self, given: torch.Tensor) -> torch.Tensor:
        """Feed what is given; return the logits. Nothing in here may wait for the GPU."""
        decoder = self._decoder
        tokens, positions, here = given[:, :TEXT].t().long().contiguous()

        def attend(layer: int, mixed: torch.Tensor) -> torch.Tensor:
            return self._kernels.attend(
                mixed,
                positions,
                given[:, TEXT:],
                self._cache.kept[layer],
                decoder.heads,
                decoder.windows[layer],
                decoder.scaling,
            )

        hidden = decoder.hidden(tokens, positions, attend)
        if self._cache.states is not None:
            self._cache.states.index_copy_(0, here, hidden)
        return decoder.logits(hidden)


def recorded_rows(rows: int) -> int:
    """Return the rows of the recorded step that serves so many.

    >>> [recorded_rows(rows) for rows in (1, 3, 20, 33, 250)]
    [1, 4, 32, 64, 256]
    """
    return 2 ** (rows - 1).bit_length() if rows <= EVERY else -(-rows // EVERY) * EVERY


def can_record(decoder: Decoder) -> bool:
    """Tell whether a decoder is on this process's GPU, and Triton and a C compiler for it are there."""
    if decoder.device.type != "cuda" or decoder.device.index != torch.cuda.current_device():
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return compiler is not None and importlib.util.find_spec("triton") is not None
