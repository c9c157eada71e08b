"""Sets of transformations, labels joint with them, and scores read back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.transformations import (
    SETS,
    aggregated_scores,
    identity_scores,
    joint_labels,
    own_transformations,
    split_joint,
    transformations,
)

IMAGES = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)


@given(st.integers(1, 12), st.integers(1, 9))
def test_joint_labels_go_there_and_back(classes: int, count: int) -> None:
    """Oracle: all pairs (y, j) by two loops, y * M + j."""
    joint = joint_labels(torch.arange(classes), count)
    assert joint.tolist() == [y * count + j for y in range(classes) for j in range(count)]
    labels, which = split_joint(joint, count)
    assert labels.tolist() == [y for y in range(classes) for _ in range(count)]
    assert which.tolist() == list(range(count)) * classes


@given(st.integers(1, 6), st.integers(1, 5))
def test_scores_are_read_where_they_stand(classes: int, count: int) -> None:
    """Oracle: copy j of an image of class y has a 1 at y * M + j alone: the aggregate is 1 at y, and for
    every single j the entry (y, j) of copy j is what it takes."""
    labels = torch.arange(classes)
    joint = torch.nn.functional.one_hot(joint_labels(labels, count), classes * count).float()
    assert torch.equal(aggregated_scores(joint, count), torch.eye(classes))
    assert torch.equal(identity_scores(joint[::count], count), torch.eye(classes))
    for j in range(count):
        alone = torch.zeros_like(joint).view(classes, count, -1)
        alone[:, j] = joint.view(classes, count, -1)[:, j]
        assert torch.equal(aggregated_scores(alone.flatten(0, 1), count) * count, torch.eye(classes))


def test_quarter_turns_are_a_group() -> None:
    """Oracle: four times k = 1 is the identity, and t_k after t_l is t_(k + l mod 4)."""
    turns = SETS["rotation"].functions
    four = IMAGES
    for _ in range(4):
        four = turns[1](four)
    assert torch.equal(four, IMAGES)
    for k in range(4):
        for other in range(4):
            assert torch.equal(turns[k](turns[other](IMAGES)), turns[(k + other) % 4](IMAGES))


def test_copies_stand_image_by_image() -> None:
    """Oracle: row i * M + j is torch.rot90 of image i by j quarters."""
    copies = SETS["rotation"].copies(IMAGES)
    for i in range(2):
        for j in range(4):
            assert torch.equal(copies[i * 4 + j], torch.rot90(IMAGES[i], j, (1, 2)))


@pytest.mark.parametrize(
    "name", ["rotation", "rotation2", "colour3", "colour6", "rotation*colour3", "identity"]
)
def test_transformations_differ_and_are_undone(name: str) -> None:
    """Oracle: the inverse gives the image back, the first is the image, and no two copies are the same."""
    made = transformations(name)
    copies = made.copies(IMAGES[:1])
    assert torch.equal(copies[0], IMAGES[0]) and len(made.names) == len(set(made.names)) == len(made)
    assert len({tuple(copy.flatten().tolist()) for copy in copies}) == len(made)
    for which in range(len(made)):
        assert torch.equal(made.inverse(made.functions[which](IMAGES), which), IMAGES)


def test_products_count_and_order() -> None:
    """Oracle: sizes by multiplication; place i * 3 + j is the i-th turn of the j-th order of colours."""
    sizes = {"rotation2*colour3": 6, "rotation*colour3": 12, "rotation*colour6": 24}
    for name, size in sizes.items():
        assert len(transformations(name)) == size
    product, turns, colours = transformations("rotation*colour3"), SETS["rotation"], SETS["colour3"]
    for i in range(4):
        for j in range(3):
            by_hand = turns.functions[i](colours.functions[j](IMAGES))
            assert torch.equal(product.functions[i * 3 + j](IMAGES), by_hand)


def test_crops_shift_by_an_eighth() -> None:
    """Oracle: slices of a 16 x 16 image moved by two pixels, away from the repeated edge."""
    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    copies = dict(zip(SETS["crops"].names, SETS["crops"].copies(image), strict=True))
    assert torch.equal(copies["down right"][:, 2:, 2:], image[0, :, :-2, :-2])
    assert torch.equal(copies["up left"][:, :-2, :-2], image[0, :, 2:, 2:])
    with pytest.raises(UsageError, match="'up left' of 'crops' has no inverse"):
        SETS["crops"].inverse(image, 1)


def test_own_transformations_are_checked() -> None:
    """Oracle: the name of what is wrong stands in the message, and what to do."""
    mirrored = own_transformations("mirrors", [("as is", lambda x: x), ("mirror", lambda x: x.flip(3))])
    assert torch.equal(mirrored.copies(IMAGES)[1], IMAGES[0].flip(2))
    swapped = own_transformations("swapped", [("mirror", lambda x: x.flip(3)), ("as is", lambda x: x)])
    with pytest.raises(DataError, match=r"'mirror', changes the images.*must be the identity"):
        swapped.copies(IMAGES)
    for name, function in (("halved", lambda x: x[:, :, ::2]), ("doubled", lambda x: x.double())):
        wrong = own_transformations("mine", [("as is", lambda x: x), (name, function)])
        with pytest.raises(DataError, match=f"'{name}' turns images.*must keep shape and type"):
            wrong.copies(IMAGES)
    for functions in ([], [("a", lambda x: x), ("a", lambda x: x)]):
        with pytest.raises(UsageError, match="a name of its own"):
            own_transformations("mine", functions)


def test_images_that_do_not_fit_are_refused() -> None:
    """Oracle: the message names the set that would do."""
    with pytest.raises(DataError, match="'rotation2', or padding"):
        SETS["rotation"].copies(torch.zeros(2, 1, 4, 6))
    assert SETS["rotation2"].copies(torch.zeros(2, 1, 4, 6)).shape == (4, 1, 4, 6)
    with pytest.raises(DataError, match="1 channels; orders of colours need three"):
        SETS["colour6"].copies(torch.zeros(2, 1, 4, 4))
    with pytest.raises(UsageError, match="Did you mean 'rotation'"):
        transformations("rotatoin*colour3")
