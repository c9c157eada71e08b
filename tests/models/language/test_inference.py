"""Passes without gradients give what torch's own linear layers give, and leave no trace."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from selfstudy.models.language import inference
from selfstudy.models.language.inference import FEW, LITTLE, Inference, Products


@pytest.fixture(params=[True, False], autouse=True)
def processor(request, monkeypatch):
    """As on a processor where oneDNN is the faster, and as on one where MKL is."""
    monkeypatch.setattr(inference, "one_dnn", lambda: request.param)
    return request.param


@pytest.mark.parametrize("rows", [1, LITTLE // (96 * 40), LITTLE // (96 * 40) + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_float64(rows, bias):
    """oneDNN's products are as close to exact ones as float32 is, in two and three dimensions."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(96, 40, bias=bias), nn.Dropout(0.5))
    for shape in ((rows, 96), (rows, 1, 96)):
        x = torch.randn(shape)
        with Inference(module):
            got = module(x)
        assert got.is_inference() and not got.requires_grad
        torch.testing.assert_close(got.double(), module[0].double()(x.double()), atol=1e-5, rtol=1e-5)
        module.float()


def test_leaves_layers_that_learn_behind(processor):
    """After the block, also one left by an error, and when entered again, layers are torch's own."""
    module = nn.Linear(64, 64)
    block = Inference(module)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), block:
            assert (type(module) is not nn.Linear) == processor
            raise ZeroDivisionError
        assert type(module) is nn.Linear and not torch.is_inference_mode_enabled()
    module(torch.randn(100, 64)).sum().backward()
    assert module.weight.grad is not None


def test_other_precisions_stay_as_they_are():
    """A layer in bfloat16 has a fast product of its own."""
    module = nn.Linear(64, 64, dtype=torch.bfloat16)
    with Inference(module):
        assert type(module) is nn.Linear


@pytest.mark.parametrize("how", [{}, {"packed": True}, {"arranged": True}])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, FEW, FEW + 1, 500])
def test_products_of_layers_with_one_input(how, bias, rows):
    """Oracle: the layers themselves in float64, their outputs side by side."""
    torch.manual_seed(0)
    layers = [nn.Linear(96, width, bias=bias) for width in (40, 8)]
    x = torch.randn(rows, 96)
    with torch.inference_mode():
        got = Products(*layers, **how)(x)
        expected = torch.cat([layer.double()(x.double()) for layer in layers], -1)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("how", [{}, {"packed": True}, {"arranged": True}])
@pytest.mark.parametrize("rows", [3, FEW + 1])
def test_weights_of_another_precision_than_the_rows(how, rows):
    """Oracle: the rounded layer in float64 on rounded rows; outputs err by their own rounding."""
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 40, dtype=torch.bfloat16), torch.randn(rows, 96)
    with torch.inference_mode():
        got = Products(layer, **how)(x)
        expected = layer.double()(x.bfloat16().double())
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, atol=2e-2, rtol=1e-2)


SHAPES = """
import resource, torch
from selfstudy.models.language import inference

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
weight = torch.randn(344, 128)
with torch.inference_mode():
    inference._one_dnn_linear(torch.randn(1024, 128), weight, None)
    before = peak()
    for rows in range(9, 1009):
        inference._one_dnn_linear(torch.randn(rows, 128), weight, None)
print(peak() - before)
"""


def test_products_of_many_shapes_take_little_memory(processor):
    """A thousand numbers of rows, MiB: some 60 here, and 550 where 1,024 prepared shapes are kept."""
    if not processor:
        pytest.skip("of oneDNN's products alone")
    kept = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    environment = {name: value for name, value in os.environ.items() if name not in kept}
    done = subprocess.run([sys.executable, "-c", SHAPES], env=environment, capture_output=True, text=True)
    assert float(done.stdout) < 200, done.stderr
