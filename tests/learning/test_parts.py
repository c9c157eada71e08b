"""Several trained objects as one result."""

from __future__ import annotations

from pathlib import Path

import torch

from selfstudy.learning.parts import Parts
from selfstudy.learning.temperatures import IndividualTemperatures, TemperatureLearning
from selfstudy.models.encoders.convolution import ConvEncoder


def test_parts_come_back(tmp_path: Path) -> None:
    """Oracle: what was saved: classes, weights, and the facts beside them."""
    parts = {
        "encoder": ConvEncoder(channels=1, size=8, first=2, stages=2, seed=3),
        "temperatures": IndividualTemperatures(3, 0.4, TemperatureLearning(rho=0.3)),
    }
    Parts(parts, {"steps": 5, "collapsed_at": None}).save(tmp_path)
    found = Parts.load(tmp_path)
    assert found.facts == {"steps": 5, "collapsed_at": None} and list(found.parts) == list(parts)
    for name, part in parts.items():
        assert type(found.parts[name]) is type(part)
        for key, value in part.state_dict().items():
            assert torch.equal(found.parts[name].state_dict()[key], value)
