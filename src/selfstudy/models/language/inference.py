"""Forward passes that nothing is learned from, at the speed of the processor.

torch computes float32 products on processors by MKL, which leaves half of the speed of some (AMD's with
AVX-512) unused; oneDNN, which comes with torch, does not, but its product has no gradient. On Intel's, MKL is
the faster of the two.
"""

from __future__ import annotations

import os
from functools import cache
from types import TracebackType

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from selfstudy.core.machine import hardware

LITTLE = 2**20  # multiplications; below, the longer way to oneDNN costs more than it gains
FEW = 64  # rows; with more, arranging the weights costs little beside the product

# torch and oneDNN both keep what they have prepared for the last 1,024 shapes of a product, half a megabyte
# for each. Searches have rows in every number, so that would be most of their memory.
os.environ.setdefault("LRU_CACHE_CAPACITY", "1")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


@cache
def one_dnn() -> bool:
    """Tell whether oneDNN is to compute float32 products on this processor."""
    return torch.backends.mkldnn.is_available() and "Intel" not in hardware()["cpu"]


class Products:
    """Linear layers with the same input [N, I] as one product: their outputs [N, O] side by side.

    Args:
        layers: with the same input.
        packed: keep one copy of all weights that is faster to multiply with.
        arranged: keep a copy of each layer's weights that is faster to multiply few rows with, on processors:
            the products of few rows with large weights otherwise spend most of their time on arranging them.
        compiled: multiply by `product_kernels`, on processors in float32: the fastest for small weights.

    With none, the layers' own weights are used.

    Attributes:
        panels: where compiled, all weights as `product_kernels` wants them.
        bias: of all layers together [O], where they have some.
    """

    def __init__(
        self, *layers: nn.Linear, packed: bool = False, arranged: bool = False, compiled: bool = False
    ) -> None:
        weights = [layer.weight.detach() for layer in layers]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        self._weights = weights
        self.panels: np.ndarray | None = None
        if compiled:
            self._arrange(torch.cat(weights))
            return
        on_processor = weights[0].device.type == "cpu"
        self._one_dnn = on_processor and weights[0].dtype == torch.float32 and one_dnn()
        together = torch.cat(weights) if packed and len(weights) > 1 else weights[0]  # [O, I]
        self._packed = together if packed and self._one_dnn else None
        self._turned = together.t() if packed and not self._one_dnn else None
        if self._turned is not None and on_processor:
            self._turned = self._turned.contiguous()  # MKL is at its best when it need not transpose
        arranged = arranged and on_processor and torch.backends.mkldnn.is_available()
        self._arranged = [_arranged(weight) for weight in weights] if arranged else []

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return [N, O], computed in the precision of the weights and given in that of the rows."""
        return self._outputs(rows.to(self._weights[0].dtype)).to(rows.dtype)

    def _arrange(self, together: torch.Tensor) -> None:
        # Only here, for the compiler's import takes half a second.
        from selfstudy.models.language import product_kernels

        self._kernels, self._outs = product_kernels, len(together)
        count = -(-len(together) // product_kernels.COLUMNS)
        self.panels = np.empty((count, together.shape[1], product_kernels.COLUMNS), dtype=np.float32)
        product_kernels.arrange_turned(together.numpy(), self.panels)

    def _by_panels(self, rows: torch.Tensor, panels: np.ndarray) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1]).contiguous()
        out = flat.new_empty(len(flat), len(panels) * panels.shape[2])
        self._kernels.multiply(flat.numpy(), panels, out.numpy(), False)
        out = out[:, : self._outs].contiguous().view(*rows.shape[:-1], self._outs)
        return out if self.bias is None else out.add_(self.bias)

    def _outputs(self, rows: torch.Tensor) -> torch.Tensor:
        if self.panels is not None:
            return self._by_panels(rows, self.panels)
        if self._turned is not None:
            return rows @ self._turned if self.bias is None else torch.addmm(self.bias, rows, self._turned)
        if self._packed is not None:
            return self._product(rows, self._packed, self.bias)
        if self._arranged and rows.numel() // rows.shape[-1] <= FEW:
            outs = [_one_dnn_linear(rows, weight, None) for weight in self._arranged]
        else:
            outs = [self._product(rows, weight, None) for weight in self._weights]
        out = torch.cat(outs, -1) if len(outs) > 1 else outs[0]
        return out if self.bias is None else out + self.bias

    def _product(self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self._one_dnn and rows.numel() * len(weight) >= LITTLE:
            return _one_dnn_linear(rows, weight, bias)
        return F.linear(rows, weight, bias)


def _one_dnn_linear(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    product = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    assert isinstance(product, torch.Tensor)
    return product


def _arranged(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight [O, I] in the order in which oneDNN multiplies few rows with it."""
    copy = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 8)
    assert isinstance(copy, torch.Tensor)
    return copy


class _OneDnnLinear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.numel() * self.out_features < LITTLE:
            return super().forward(input)
        return _one_dnn_linear(input, self.weight, self.bias)


class Inference:
    """A context in which `module` is in evaluation mode and nothing is differentiated.

    Its float32 linear layers on a processor compute by oneDNN there. The same object may be entered again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._mode = torch.inference_mode()
        self._layers = [
            layer
            for layer in (module.modules() if one_dnn() else ())
            if type(layer) is nn.Linear
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.float32
        ]

    def _turn(self, kind: type[nn.Linear]) -> None:
        for layer in self._layers:
            object.__setattr__(layer, "__class__", kind)  # past nn.Module's own, which is slow

    def __enter__(self) -> None:
        if self._module.training:
            self._module.eval()
        self._turn(_OneDnnLinear)
        self._mode.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._mode.__exit__(kind, error, trace)
        self._turn(nn.Linear)
