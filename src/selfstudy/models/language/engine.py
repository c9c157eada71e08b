"""How the completions of a language model are drawn: by which backend, in how much memory."""

from __future__ import annotations

from dataclasses import dataclass

from selfstudy.core.errors import UsageError, nearest

BACKENDS = ("torch", "vllm")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Settings of the sampler of one model; the fields of a model's specification, `NAME?cache_mib=256`."""

    backend: str = "torch"
    """torch draws in this process; vllm needs the extra `vllm`."""
    cache_mib: int = 1024
    """Memory for the keys and values of prefixes that were read, MiB."""
    rows: int = 256
    """Most sequences that are drawn at the same time."""
    tensor_parallel: int = 1
    """GPUs that share one model; of vllm only."""

    def __post_init__(self) -> None:
        """Raise a `UsageError` for a setting that cannot be."""
        if self.backend not in BACKENDS:
            raise UsageError(f"There is no backend {self.backend!r}. {nearest(self.backend, BACKENDS)}")
        for name in ("cache_mib", "rows", "tensor_parallel"):
            if getattr(self, name) < 1:
                raise UsageError(f"The engine's {name} is {getattr(self, name)}; it must be at least 1.")
        if self.tensor_parallel > 1 and self.backend != "vllm":
            raise UsageError("Only backend=vllm shares a model over several GPUs (tensor_parallel).")
