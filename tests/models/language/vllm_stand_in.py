"""What of vLLM the sampler uses, on the processor: vLLM itself needs a GPU and another torch.

Names, defaults and meanings are those of vLLM 0.33 (entrypoints/llm.py, sampling_params.py, outputs.py, the
detokenizer, and the worker's reload_weights). The model is a real one, read from the folder that is named, by
transformers. Not a test itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfstudy.models.language.model import no_bars


@dataclass
class SamplingParams:
    """One request's settings; what is not here is refused, as there."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        if any(not stop for stop in self.stop or ()):
            raise ValueError("stop cannot contain an empty string.")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            raise ValueError("seed must have 64 bits")


@dataclass
class Logprob:
    """Of one token at one place."""

    logprob: float


@dataclass
class CompletionOutput:
    """What one request has got."""

    text: str
    token_ids: list[int]
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    """The answer to one prompt."""

    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    num_cached_tokens: int | None = None


@dataclass
class Started:
    """What engines were asked for, in the order of the calls; `fails` is what the next one raises."""

    engines: list[LLM] = field(default_factory=list)
    fails: Exception | None = None


STARTED = Started()


class LLM:
    """Draws one sequence after the other."""

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.92,
        kv_cache_memory_bytes: int | None = None,
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        block_size: int | None = None,
    ) -> None:
        if STARTED.fails:
            raise STARTED.fails
        self.settings = {"tp": tensor_parallel_size, "seqs": max_num_seqs, "bytes": kv_cache_memory_bytes}
        self.dtype, self.max_model_len = getattr(torch, dtype), max_model_len or 0
        self.tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        self.read: set[tuple[int, ...]] = set()
        self.calls: list[Any] = []
        self.sizes: list[int] = []
        self._load(model)
        STARTED.engines.append(self)

    def _load(self, folder: str) -> None:
        with no_bars():
            self.model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=self.dtype)

    def generate(
        self, prompts: Any, sampling_params: Any = None, *, use_tqdm: bool = True
    ) -> list[RequestOutput]:
        assert len(prompts) == len(sampling_params) and not use_tqdm
        self.sizes.append(len(prompts))
        return [self._one(*pair) for pair in zip(prompts, sampling_params, strict=True)]

    @torch.no_grad()
    def _one(self, prompt: dict[str, list[int]], settings: SamplingParams) -> RequestOutput:
        start = prompt["prompt_token_ids"]
        if len(start) + 1 > self.max_model_len:
            raise ValueError("The prompt is longer than the maximum model length.")
        cached = 16 * ((len(start) - 1) // 16) if tuple(start) in self.read else 0
        self.read.add(tuple(start))
        generator = torch.Generator().manual_seed(settings.seed or 0)
        out = CompletionOutput("", [], [])
        while out.finish_reason is None:
            logits = self.model(torch.tensor([start + out.token_ids])).logits[0, -1].double()
            logprobs = logits.log_softmax(-1)
            token = int(logits.argmax())
            if settings.temperature:
                share, order = (logits / settings.temperature).softmax(-1).sort(descending=True)
                share[share.cumsum(0) - share >= settings.top_p] = 0.0
                token = int(order[torch.multinomial(share, 1, generator=generator)])
            out.token_ids.append(token)
            out.logprobs.append({token: Logprob(float(logprobs[token]))})
            self._end(out, settings, len(start))
        return RequestOutput(start, [out], cached)

    def _end(self, out: CompletionOutput, settings: SamplingParams, start: int) -> None:
        text = self.tokenizer.decode(out.token_ids, skip_special_tokens=True)
        found = [stop for stop in settings.stop or () if stop in text]
        if out.token_ids[-1] == self.tokenizer.eos_token_id:
            out.finish_reason = "stop"
        elif out.token_ids[-1] in (settings.stop_token_ids or ()):
            out.finish_reason, out.stop_reason = "stop", out.token_ids[-1]
        elif found:
            text = text[: text.index(found[0])]
            out.finish_reason, out.stop_reason = "stop", found[0]
            assert out.logprobs is not None
            out.logprobs.append({0: Logprob(-1.0)})  # of a token that was drawn too much, and is dropped
        elif (
            len(out.token_ids) >= (settings.max_tokens or 0)
            or start + len(out.token_ids) >= self.max_model_len
        ):
            out.finish_reason = "length"
        out.text = text

    def collective_rpc(
        self, method: str, timeout: float | None = None, args: Any = (), kwargs: Any = None
    ) -> list:
        assert method == "reload_weights" and not args
        self.calls.append("reload")
        assert Path(kwargs["weights_path"]).is_dir()
        self._load(kwargs["weights_path"])
        return [None]

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        self.calls.append("reset")
        self.read.clear()
        return True
