"""Sampling by vLLM (Kwon et al., 2023), on one GPU or several, for models of `backend=vllm`.

Written for the interface of vLLM 0.33. There is one engine in a process, because it fills the GPUs. Where
the weights have changed since it last drew, as between two rounds of training, they are handed over by a
folder and loaded in place; where the architecture or a setting has changed, it is started anew. Low-rank
updates are merged when training ends, so they go the same way.
"""

from __future__ import annotations

import gc
import math
import os
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, MachineError, MissingExtra, UsageError
from selfstudy.models.language.decoder import weights_state
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, validate
from selfstudy.models.language.stopping import Stopping

FREE_SHARE = 0.9  # of what is free on a GPU, for weights, keys and values, and working memory
BLOCK = 16  # tokens whose keys and values vLLM keeps together
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1"}


class VllmSampler:
    """Draws completions of a LanguageModel by vLLM.

    A request's key seeds its draws. They are not those of `TorchSampler`, and by rounding they may depend on
    what else is drawn; the likeliest tokens are the same. Log-probabilities are those of the model itself.
    What prompts were read is kept by vLLM between calls.

    Args:
        model: its engine's settings are those of vLLM: `cache_mib` for keys and values (on each GPU), `rows`
            sequences at a time, `tensor_parallel` GPUs.
        meter: charged generated tokens and FLOPs; None counts nothing.
    """

    def __init__(self, model: LanguageModel, meter: Meter | None = None) -> None:
        self.model, self.meter = model, meter or Meter()
        self._stopping = Stopping(model)

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order.

        A request is drawn where the budget covers the most tokens that it may take.

        Raises:
            UsageError: a request that cannot be, or that does not fit into the memory.
            DataError: a prompt without a token.
            MachineError: vLLM does not start, or the model gives numbers that are not finite.
            BudgetSpent: the meter does not cover the next request; what was drawn is counted.
        """
        for request in requests:
            validate(request)
        prompts = self.model.encode_all([request.prompt for request in requests])
        engine = _engine_of(self.model)
        limits = [self._limit(engine, *pair) for pair in zip(requests, prompts, strict=True)]
        done = {
            i: Completion("", (), (), "length" if requests[i].max_tokens == 0 else "context")
            for i, limit in enumerate(limits)
            if limit < 1
        }
        waiting = [i for i in range(len(requests)) if i not in done]
        while waiting:
            part = waiting[: self._covered([(len(prompts[i]), limits[i]) for i in waiting])]
            waiting = waiting[len(part) :]
            outputs = engine.draw(
                [prompts[i] for i in part], [self._parameters(requests[i], limits[i]) for i in part]
            )
            for i, output in zip(part, outputs, strict=True):
                done[i] = self._completion(requests[i], output)
                read = len(prompts[i]) - (output.num_cached_tokens or 0)
                self._charge(read, len(done[i].tokens))
        return [done[i] for i in range(len(requests))]

    def _limit(self, engine: _Engine, request: Request, prompt: list[int]) -> int:
        """Return how many tokens may be drawn: none where the context has no room."""
        if not prompt:
            raise DataError(f"The prompt {request.prompt!r} has no tokens; a model needs one to go on from.")
        wanted = min(request.max_tokens, self.model.context - len(prompt))
        if len(prompt) + wanted > engine.room:
            raise UsageError(
                f"A prompt of {len(prompt)} tokens and {wanted} new ones do not fit into the memory for "
                f"keys and values, {engine.room} tokens. Give the model more of it: cache_mib in its "
                "specification, as in NAME?backend=vllm&cache_mib=8192."
            )
        return wanted

    def _covered(self, sizes: Sequence[tuple[int, int]]) -> int:
        """Return how many of these (prompt, most tokens), from the first one on, the budget covers.

        Raises:
            BudgetSpent: not even the first.
        """
        read = drawn = 0
        for count, (prompt, most) in enumerate(sizes):
            read, drawn = read + prompt, drawn + most
            if not self.meter.affords(generated_tokens=drawn, flops=self.model.flops(read + drawn)):
                if count == 0:
                    self._charge(prompt, most)
                return count
        return len(sizes)

    def _charge(self, read: int, drawn: int) -> None:
        self.meter.charge(generated_tokens=drawn, flops=self.model.flops(read + drawn))

    def _parameters(self, request: Request, limit: int) -> dict[str, Any]:
        return {
            "max_tokens": limit,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.key & (2**63 - 1),  # a key has 64 bits, a seed 63
            "stop": list(request.stop),
            "stop_token_ids": list(self._stopping.end_tokens),
            "logprobs": 0,  # of the token that was drawn alone
        }

    def _completion(self, request: Request, output: Any) -> Completion:
        drawn = output.outputs[0]
        tokens = tuple(int(token) for token in drawn.token_ids)
        # Tokens behind the stop string are taken away, their log-probabilities are not.
        places = zip(tokens, drawn.logprobs, strict=False)
        logprobs = tuple(place[token].logprob for token, place in places)
        for step, logprob in enumerate(logprobs):
            if not math.isfinite(logprob):
                raise MachineError(
                    f"The model {self.model.name!r} gives a log-probability of {logprob} at step {step} "
                    f"after the prompt {request.prompt[-80:]!r}. Its weights are damaged, or have diverged "
                    "in training."
                )
        text, ended = self.model.decode(tokens), drawn.finish_reason == "stop"
        if ended and isinstance(drawn.stop_reason, str):
            return Completion(self._stopping.cut(text, request.stop), tokens, logprobs, "stop")
        if ended:
            return Completion(text, tokens, logprobs, "end")
        return Completion(
            text, tokens, logprobs, "length" if len(tokens) == request.max_tokens else "context"
        )


@dataclass
class _Engine:
    """The running vLLM engine, and whose weights it has."""

    llm: Any
    kind: Any
    """Architecture and settings that it was started with."""
    room: int
    """Most tokens of a sequence, prompt included."""
    module: weakref.ref[nn.Module]
    weights: Any

    def draw(self, prompts: list[list[int]], parameters: list[dict[str, Any]]) -> list[Any]:
        """Return vLLM's output for each prompt, in their order."""
        import vllm

        return self.llm.generate(
            [{"prompt_token_ids": tokens} for tokens in prompts],
            [vllm.SamplingParams(**one) for one in parameters],
            use_tqdm=False,
        )

    def take_over(self, model: LanguageModel) -> None:
        """Load the weights of `model`, where the engine does not have them."""
        weights = weights_state(model.module)
        if self.module() is model.module and self.weights == weights:
            return
        with tempfile.TemporaryDirectory(prefix="selfstudy-vllm-") as folder:
            model.save(Path(folder))
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        # What was read by the old weights must not be gone on from.
        if not self.llm.reset_prefix_cache():
            raise MachineError("vLLM did not let go of what it has read by earlier weights. Start again.")
        self.module, self.weights = weakref.ref(model.module), weights


_RUNNING: list[_Engine] = []  # none, or the one of this process


def _engine_of(model: LanguageModel) -> _Engine:
    """Return the engine with the weights of `model`; started where there is none of its kind."""
    config = {name: value for name, value in model.module.config.to_dict().items() if name[0] != "_"}
    kind = (config, model.engine, str(model.module.dtype), model.tokenizer.get_vocab())
    if _RUNNING and _RUNNING[0].kind == kind:
        _RUNNING[0].take_over(model)
        return _RUNNING[0]
    stop_engine()
    _RUNNING.append(_start(model, kind))
    return _RUNNING[0]


def stop_engine() -> None:
    """Let go of the GPUs, where an engine is running."""
    if _RUNNING:
        _RUNNING.pop()
        gc.collect()  # its processes end with it


def _start(model: LanguageModel, kind: Any) -> _Engine:
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    try:
        import vllm
    except ImportError:
        raise MissingExtra("vllm", "vllm") from None
    blocks = model.engine.cache_mib * 2**20 // _token_bytes(model) // BLOCK
    room = min(model.context, BLOCK * (blocks - 1))  # vLLM keeps a block for itself
    if room < BLOCK:
        raise UsageError(
            f"{model.engine.cache_mib} MiB for keys and values hold no sequence of {model.name!r}. Give the "
            "model more of it: cache_mib in its specification, as in NAME?backend=vllm&cache_mib=8192."
        )
    options: dict[str, Any] = {}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        options["gpu_memory_utilization"] = FREE_SHARE * free / total
    with tempfile.TemporaryDirectory(prefix="selfstudy-vllm-") as folder:
        model.save(Path(folder))
        try:
            llm = vllm.LLM(
                model=folder,
                dtype=str(model.module.dtype).removeprefix("torch."),
                tensor_parallel_size=model.engine.tensor_parallel,
                max_num_seqs=model.engine.rows,
                max_model_len=room,
                block_size=BLOCK,
                kv_cache_memory_bytes=model.engine.cache_mib * 2**20,
                **options,
            )
        except (RuntimeError, ValueError, OSError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise MachineError(
                f"vLLM does not start for {model.name!r}: {reason}. Give it less memory or more GPUs "
                "(cache_mib, rows, tensor_parallel in the model's specification), or draw without it: "
                "backend=torch."
            ) from error
    return _Engine(llm, kind, room, weakref.ref(model.module), weights_state(model.module))


def _token_bytes(model: LanguageModel) -> int:
    """Return the bytes of one token's keys and values on one GPU, at most."""
    config = model.module.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    here = -(-heads // model.engine.tensor_parallel)
    return 2 * config.num_hidden_layers * here * width * torch.finfo(model.module.dtype).bits // 8
