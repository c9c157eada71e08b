"""Forward passes that nothing is learned from, at the speed of the processor.

torch computes float32 products on processors by MKL, which leaves half of the speed of some (AMD's with
AVX-512) unused; oneDNN, which comes with torch, does not, but its product has no gradient.
"""

from __future__ import annotations

from types import TracebackType

import torch
from torch import nn

LITTLE = 2**20  # multiplications; below, the longer way to oneDNN costs more than it gains


class _OneDnnLinear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.numel() * self.out_features < LITTLE:
            return super().forward(input)
        product = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        assert isinstance(product, torch.Tensor)
        return product


class Inference:
    """A context in which `module` is in evaluation mode and nothing is differentiated.

    Its float32 linear layers on a processor compute by oneDNN there. The same object may be entered again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._mode = torch.inference_mode()
        self._layers = [
            layer
            for layer in (module.modules() if torch.backends.mkldnn.is_available() else ())
            if type(layer) is nn.Linear
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.float32
        ]

    def _turn(self, kind: type[nn.Linear]) -> None:
        for layer in self._layers:
            object.__setattr__(layer, "__class__", kind)  # past nn.Module's own, which is slow

    def __enter__(self) -> None:
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
