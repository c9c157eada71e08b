"""Convolutional encoders against the same networks written out."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.models.encoders.convolution import ConvEncoder, ResidualEncoder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def inputs(channels: int = 1, size: int = 9) -> torch.Tensor:
    return torch.randn(4, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_conv_layer_by_layer() -> None:
    """Oracle: convolution, normalisation by the batch, ReLU, pooling, one by one; gradients too."""
    encoder = ConvEncoder(channels=1, size=9, first=4, stages=3).train()
    weights = [weight for weight in encoder.parameters() if weight.ndim == 4]
    assert [tuple(weight.shape) for weight in weights] == [(4, 1, 3, 3), (8, 4, 3, 3), (16, 8, 3, 3)]
    found = encoder.encode(inputs())
    own = [weight.detach().clone().requires_grad_(True) for weight in weights]
    hidden = inputs()
    for stage, weight in enumerate(own):
        if stage:
            hidden = functional.max_pool2d(hidden, 2, ceil_mode=True)
        hidden = functional.conv2d(hidden, weight, padding=1)
        mean, var = hidden.mean((0, 2, 3), keepdim=True), hidden.var((0, 2, 3), keepdim=True, correction=0)
        hidden = torch.relu((hidden - mean) / torch.sqrt(var + 1e-5))
    expected = hidden.mean((2, 3))
    assert found.shape == (4, encoder.width) == (4, 16) and torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in zip(weights, own, strict=True):
        assert mine.grad is not None and torch.allclose(mine.grad, theirs.grad, atol=1e-4)  # type: ignore[arg-type]


def test_blocks_of_a_residual_network_start_as_their_shortcut() -> None:
    """Oracle: the stem and the shortcuts alone, because the last normalisation of a block starts at 0."""
    encoder = ResidualEncoder(channels=3, size=9, first=4, stages=2, blocks=2).eval()
    pixels = inputs(3)
    with torch.no_grad():
        hidden = encoder.stem(pixels)
        for block in encoder.blocks:
            hidden = torch.relu(block.shortcut(hidden))
        assert torch.allclose(encoder.encode(pixels), hidden.mean((2, 3)), atol=1e-6)


def test_a_residual_block_by_hand() -> None:
    """Oracle: two convolutions beside a shortcut, written out, with weights that are not the first ones."""
    encoder = ResidualEncoder(channels=3, size=9, first=4, stages=2, blocks=1).eval()
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.1)
        block, hidden = encoder.blocks[1], encoder.stem(inputs(3))
        found = block(hidden)

        def normalised(values: torch.Tensor, norm: torch.nn.Module) -> torch.Tensor:
            scale = (norm.weight / torch.sqrt(norm.running_var + 1e-5))[:, None, None]
            return (values - norm.running_mean[:, None, None]) * scale + norm.bias[:, None, None]

        inner = functional.conv2d(hidden, block.first.weight, stride=2, padding=1)
        inner = torch.relu(normalised(inner, block.first_norm))
        inner = normalised(functional.conv2d(inner, block.second.weight, padding=1), block.second_norm)
        short = functional.conv2d(hidden, block.shortcut[0].weight, stride=2)
        expected = torch.relu(inner + normalised(short, block.shortcut[1]))
    assert found.shape == (4, 8, 5, 5) and torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "convolutions", "width"),
    [
        ("resnet?blocks=1", 7, 64),
        ("resnet?blocks=2", 13, 64),
        ("resnet?blocks=3", 19, 64),
        ("resnet?first=64&stages=4&blocks=2", 17, 512),
    ],
)
def test_residual_networks_have_their_usual_depth(spec: str, convolutions: int, width: int) -> None:
    """Oracle: ResNet-8, -14, -20 and -18 of He et al. 2016: the number in the name, less the classifier."""
    encoder = selfstudy.model(f"{spec}&channels=3&size=32")
    found = [weight for weight in encoder.parameters() if weight.ndim == 4 and weight.shape[2] == 3]
    assert len(found) == convolutions and encoder.width == width


@pytest.mark.parametrize("spec", ["conv", "resnet"])
def test_images_of_a_single_pixel_have_features(spec: str) -> None:
    """Oracle: the width, for the smallest image."""
    encoder = selfstudy.model(f"{spec}?channels=1&size=1&first=2")
    assert encoder.embed_pixels(torch.rand(2, 1, 1, 1)).shape == (2, encoder.width)


@pytest.mark.parametrize("spec", ["conv?channels=1&size=8&first=4", "resnet?channels=1&size=8&first=4"])
def test_images_of_any_side(spec: str) -> None:
    """Oracle: the grain: sides that are no multiple of the strides are encoded too."""
    encoder = selfstudy.model(spec).eval()
    assert encoder.grain == 1
    for side in (5, 6, 11):
        assert encoder(torch.rand(2, 1, side, side)).shape == (2, encoder.width)
