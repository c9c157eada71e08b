"""Finite sets of named image transformations, applied to whole batches, and labels joint with them.

    rotation            0, 90, 180, 270 degrees        rotation2    0, 180 degrees
    colour3, colour6    cyclic or all orders of the three colour channels
    crops               the image, and shifted by an eighth of its side towards each corner

`rotation*colour3` is the product: every one of the first after every one of the second.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError, nearest

Transform = Callable[[torch.Tensor], torch.Tensor]
CROP = 8  # a crop is shifted by this part of the side


@dataclass(frozen=True)
class TransformSet:
    """M transformations t_0, ..., t_(M-1) of images [B, C, H, W]; t_0 is the identity.

    Attributes:
        name: as in `transformations`; of a user's own set any word.
        names: of the transformations, M.
        functions: the transformations, M.
        inverses: of each its inverse, or None where it has none.
    """

    name: str
    names: tuple[str, ...]
    functions: tuple[Transform, ...]
    inverses: tuple[Transform | None, ...]

    def __len__(self) -> int:
        return len(self.functions)

    def copies(self, images: torch.Tensor) -> torch.Tensor:
        """Return all transformed copies, image by image: [B, C, H, W] -> [B * M, C, H, W].

        Row i * M + j is t_j of image i.

        Raises:
            DataError: a transformation changes the shape or the type, or the first is not the identity.
        """
        made = [self._checked(images, j) for j in range(len(self))]
        if not torch.equal(made[0], images):
            raise DataError(
                f"The first transformation of {self.name!r}, {self.names[0]!r}, changes the images. "
                "It must be the identity, because it stands for the image as it is."
            )
        return torch.stack(made, 1).flatten(0, 1)

    def _checked(self, images: torch.Tensor, which: int) -> torch.Tensor:
        made = self.functions[which](images)
        if made.shape == images.shape and made.dtype == images.dtype:
            return made
        said = (
            f"The transformation {self.names[which]!r} turns images {tuple(images.shape)} of {images.dtype} "
            f"into {tuple(made.shape)} of {made.dtype}; it must keep shape and type."
        )
        if images.shape[2] != images.shape[3] and made.shape[2:] == images.shape[:1:-1]:
            said += " Images that are not square need the set 'rotation2', or padding to a square."
        raise DataError(said)

    def inverse(self, images: torch.Tensor, which: int) -> torch.Tensor:
        """Return images [B, C, H, W] with transformation `which` undone.

        Raises:
            UsageError: it has no inverse.
        """
        undo = self.inverses[which]
        if undo is None:
            raise UsageError(f"The transformation {self.names[which]!r} of {self.name!r} has no inverse.")
        return undo(images)

    def __mul__(self, other: TransformSet) -> TransformSet:
        """Return the product of two sets: at place i * len(other) + j, t_i of this after t_j of the other."""
        pairs = list(itertools.product(range(len(self)), range(len(other))))
        undo = [(self.inverses[i], other.inverses[j]) for i, j in pairs]
        return TransformSet(
            f"{self.name}*{other.name}",
            tuple(f"{self.names[i]}, {other.names[j]}" for i, j in pairs),
            tuple(partial(_chain, other.functions[j], self.functions[i]) for i, j in pairs),
            tuple(partial(_chain, first, then) if first and then else None for first, then in undo),
        )


def transformations(spec: str) -> TransformSet:
    """Return the set that `spec` names: one of `SETS`, or several joined by `*`.

    >>> len(transformations("rotation*colour3"))
    12

    Raises:
        UsageError: there is no such set.
    """
    parts = [part.strip() for part in spec.split("*")]
    for part in parts:
        if part not in SETS:
            raise UsageError(f"There is no set of transformations {part!r}. {nearest(part, SETS)}")
    product = SETS[parts[0]]
    for part in parts[1:]:
        product = product * SETS[part]
    return product


def own_transformations(name: str, functions: Sequence[tuple[str, Transform]]) -> TransformSet:
    """Return a user's set of (name, function) pairs; the identity comes first.

    Args:
        name: of the set.
        functions: each takes and gives [B, C, H, W], of the same shape and type.

    Raises:
        UsageError: none at all, or two of one name.
    """
    names = tuple(each for each, _ in functions)
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"The set {name!r} has the transformations {', '.join(names) or 'none'}: give one or more, each "
            "with a name of its own, the identity first."
        )
    return TransformSet(name, names, tuple(each for _, each in functions), (None,) * len(names))


def joint_labels(labels: torch.Tensor, count: int) -> torch.Tensor:
    """Return the joint labels of all copies, image by image: [B] -> [B * M], y * M + j for copy j.

    >>> joint_labels(torch.tensor([0, 2]), 3).tolist()
    [0, 1, 2, 6, 7, 8]
    """
    return (labels[:, None] * count + torch.arange(count, device=labels.device)).flatten()


def split_joint(joint: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the labels y and the transformations j of joint labels y * M + j."""
    return joint // count, joint % count


def identity_scores(joint: torch.Tensor, count: int) -> torch.Tensor:
    """Return the scores [B, C] of the images as they are, of joint scores [B, C * M]: entries y * M."""
    return joint[:, ::count]


def aggregated_scores(joint: torch.Tensor, count: int) -> torch.Tensor:
    """Return the mean over j of the scores of (y, j) in copy j: [B * M, C * M], image by image -> [B, C]."""
    by_copy = joint.view(-1, count, joint.shape[1] // count, count)  # [B, M, C, M]
    return by_copy.diagonal(dim1=1, dim2=3).mean(2)


def _chain(first: Transform, then: Transform, images: torch.Tensor) -> torch.Tensor:
    return then(first(images))


def _same(images: torch.Tensor) -> torch.Tensor:
    return images


def _turned(quarters: int, images: torch.Tensor) -> torch.Tensor:
    return torch.rot90(images, quarters, (2, 3))


def _reordered(order: tuple[int, ...], images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] != len(order):
        raise DataError(
            f"The images have {images.shape[1]} channels; orders of colours need three. Take 'rotation'."
        )
    return images[:, list(order)]


def _shifted(down: int, right: int, images: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[2:]
    rows, columns = max(1, height // CROP), max(1, width // CROP)
    padded = functional.pad(images, (columns, columns, rows, rows), mode="replicate")
    top, left = rows * (1 - down), columns * (1 - right)
    return padded[:, :, top : top + height, left : left + width]


def _rotations(name: str, quarters: Sequence[int]) -> TransformSet:
    return TransformSet(
        name,
        tuple(f"{90 * k} degrees" for k in quarters),
        tuple(partial(_turned, k) for k in quarters),
        tuple(partial(_turned, -k) for k in quarters),
    )


def _colours(name: str, orders: Sequence[tuple[int, ...]]) -> TransformSet:
    back = [tuple(sorted(range(3), key=order.__getitem__)) for order in orders]
    return TransformSet(
        name,
        tuple("".join("RGB"[channel] for channel in order) for order in orders),
        tuple(partial(_reordered, order) for order in orders),
        tuple(partial(_reordered, order) for order in back),
    )


def _crops() -> TransformSet:
    corners = list(itertools.product((-1, 1), (-1, 1)))
    names = [f"{'down' if down > 0 else 'up'} {'right' if right > 0 else 'left'}" for down, right in corners]
    shifts = tuple(partial(_shifted, down, right) for down, right in corners)
    return TransformSet("crops", ("centre", *names), (_same, *shifts), (_same, *(None,) * 4))


SETS: dict[str, TransformSet] = {
    "identity": TransformSet("identity", ("identity",), (_same,), (_same,)),
    "rotation": _rotations("rotation", range(4)),
    "rotation2": _rotations("rotation2", (0, 2)),
    "colour3": _colours("colour3", [(0, 1, 2), (1, 2, 0), (2, 0, 1)]),
    "colour6": _colours("colour6", list(itertools.permutations(range(3)))),
    "crops": _crops(),
}
