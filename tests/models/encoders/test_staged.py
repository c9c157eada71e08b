"""Networks whose features on the way can be looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import image_splits
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.staged import AT_ONCE, StagedNetwork

IMAGES = image_splits("digits")["train"].only(slice(20))


def encoder(spec: str) -> ImageEncoder:
    return selfstudy.model(spec).made_for(IMAGES)


def staged(body: ImageEncoder, stage: str = "") -> StagedNetwork:
    return StagedNetwork(body, nn.Linear(body.width, 3), nn.Linear(body.width, 5), body.stages, stage)


@pytest.mark.parametrize(
    ("spec", "widths"),
    [
        ("conv?first=4&stages=3", [4, 8, 16]),
        ("resnet?first=4&stages=3&blocks=2", [4, 8, 16]),
        ("vit?hidden=8&layers=3&heads=2&patch=4", [8, 8, 8]),
    ],
)
def test_stages_of_encoders(spec: str, widths: list[int]) -> None:
    """Oracle: a stage each, of the widths of the architecture; the second is looked at unless told."""
    body = encoder(spec)
    assert list(body.stages) == [f"stage{n + 1}" for n in range(len(widths))]
    looks = [staged(body, stage).looked(IMAGES.pixels, 20) for stage in ("stage1", "stage2", "stage3", "")]
    assert [look.features.shape[1] for look in looks] == [*widths, widths[1]]
    assert torch.equal(looks[1].features, looks[3].features)
    assert not torch.equal(looks[1].features, looks[2].features[:, : widths[1]])


def test_the_last_stage_is_the_encoders_own_features() -> None:
    """Oracle: the encoder's features before the mean over places, as `embed_pixels` gives them."""
    body = encoder("conv?first=4&stages=2")
    look = staged(body, "stage2").looked(IMAGES.pixels, 20)
    own = nn.functional.normalize(body.embed_pixels(IMAGES.pixels(slice(None))), dim=1)
    assert torch.allclose(look.features, own, atol=1e-6)
    assert torch.allclose(look.features.norm(dim=1), torch.ones(20))


def test_a_look_is_in_evaluation_mode_and_leaves_no_trace() -> None:
    """Oracle: logits of evaluation mode, whatever the batches; the mode, the statistics and the hooks
    stay."""
    network = staged(encoder("conv?first=4&stages=2"))
    many = IMAGES.pixels(np.arange(AT_ONCE + 7) % 20)
    wanted = network.eval()(many).detach()
    before = {name: value.clone() for name, value in network.train().state_dict().items()}
    look = network.looked(lambda at: many[at], len(many))
    assert torch.allclose(look.logits, wanted, atol=1e-5) and network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network._watched[0]._forward_hooks and len(look.features) == len(many)


def test_weights_are_held_once() -> None:
    """Oracle: the stage is part of the body already, so that a checkpoint has it once."""
    network = staged(encoder("conv?first=4&stages=2"))
    parts = (network.body, network.classifier, network.projection)
    assert len(network.state_dict()) == sum(len(part.state_dict()) for part in parts)


def test_a_stage_that_there_is_not() -> None:
    """Oracle: the names that there are."""
    with pytest.raises(UsageError, match="stage1, stage2"):
        staged(encoder("conv?first=4&stages=2"), "stage9")
