"""Memory that outlives the samplers of one model: fresh memory costs a page fault for every 4 KB."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class Memory:
    """Buffers of one model, given out again when whoever had them is gone."""

    def __init__(self) -> None:
        self._spare: list[torch.Tensor] = []

    def discard(self) -> None:
        """Keep nothing of what was lent so far: there may be numbers in it that are not finite."""
        self._spare = []

    def lend(self, borrower: object, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """Return memory with finite numbers in it until `borrower` is no more.

        Args:
            borrower: an object that takes weak references.
            shape: of the memory.
            like: its dtype and device are taken.
        """
        size = math.prod(shape)
        fitting = [
            i
            for i, flat in enumerate(self._spare)
            if size <= flat.numel() <= 2 * size and (flat.dtype, flat.device) == (like.dtype, like.device)
        ]
        flat = self._spare.pop(fitting[0]) if fitting else _zeros(size, like)
        weakref.finalize(borrower, self._spare.append, flat)
        return flat[:size].view(*shape)


def _zeros(size: int, like: torch.Tensor) -> torch.Tensor:
    """Return zeros, because a hidden column still enters products, and 0 * nan is nan."""
    if like.device.type != "cpu" or not size:
        return like.new_zeros(size)
    # The system gives out zeroed memory page by page when it is first touched; torch.zeros touches all.
    return torch.from_numpy(np.zeros(size * like.element_size(), dtype=np.uint8)).view(like.dtype)


CHUNK = 2**22  # numbers of a piece of a room
LINE = 16  # numbers in a line of memory


class Room:
    """Memory for one pass of training, float32; what is taken inside `with` is free again after it.

    Args:
        module: which is trained.
    """

    def __init__(self, module: nn.Module) -> None:
        self._memory = _ROOMS.setdefault(module, Memory())
        self._chunks: list[np.ndarray] = []
        self._next = 0, 0  # chunk and place in it
        self._marks: list[tuple[int, int]] = []

    def take(self, *shape: int) -> np.ndarray:
        """Return float32 numbers of any value."""
        size = math.prod(shape)
        chunk, first = self._next
        while chunk < len(self._chunks) and first + size > len(self._chunks[chunk]):
            chunk, first = chunk + 1, 0
        if chunk == len(self._chunks):
            self._chunks.append(self._lent(max(CHUNK, 2 ** (size - 1).bit_length())))
        self._next = chunk, first + -(-size // LINE) * LINE
        return self._chunks[chunk][first : first + size].reshape(shape)

    def _lent(self, size: int) -> np.ndarray:
        """Return memory that begins with a line: what straddles two is read twice."""
        flat = self._memory.lend(self, (size + LINE,), torch.empty(0)).numpy()
        first = -flat.ctypes.data % (4 * LINE) // 4
        return flat[first : first + size]

    def __enter__(self) -> None:
        self._marks.append(self._next)

    def __exit__(self, *_: object) -> None:
        self._next = self._marks.pop()


_OF: weakref.WeakKeyDictionary[nn.Module, Memory] = weakref.WeakKeyDictionary()


def memory_of(module: nn.Module) -> Memory:
    """Return the memory of a model; it goes with it."""
    return _OF.setdefault(module, Memory())


_ROOMS: weakref.WeakKeyDictionary[nn.Module, Memory] = weakref.WeakKeyDictionary()
"""Of modules that are trained; apart from that of samplers, where all numbers must be finite."""
