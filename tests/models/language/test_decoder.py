"""The decoder against transformers' own forward pass, and what it refuses to decode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from transformers import LlamaForCausalLM, PreTrainedModel

from selfstudy.models.language.decoder import Decoder, can_decode

from .random_models import DECODED, VOCABULARY, random_module

LENGTH = 21  # four times the windows of the random models


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tokens(count: int = LENGTH, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))


def decoded(decoder: Decoder, texts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Hidden states of texts packed into one row, with attention written out for each text by itself."""
    lengths = [len(text) for text in texts]

    def attend(layer: int, mixed: torch.Tensor) -> torch.Tensor:
        query, key, value = mixed.split((decoder.heads, decoder.key_heads, decoder.key_heads), 1)
        group, window = decoder.heads // decoder.key_heads, decoder.windows[layer]
        out = []
        for q, k, v in zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True):
            k, v = (side.repeat_interleave(group, 1) for side in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q, k).double() * decoder.scaling
            behind = torch.arange(len(q))[:, None] - torch.arange(len(q))
            hidden = (behind < 0) | (behind >= (window or len(q)))
            weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).to(v.dtype)
            out.append(torch.einsum("hqk,khd->qhd", weights, v).flatten(1))
        return torch.cat(out)

    with torch.inference_mode():
        positions = torch.cat([torch.arange(length) for length in lengths])
        return list(decoder.hidden(torch.cat(texts), positions, attend).split(lengths))


def logits_of(decoder: Decoder) -> torch.Tensor:
    (hidden,) = decoded(decoder, [tokens()])
    with torch.inference_mode():
        return decoder.logits(hidden)


def plain(module: PreTrainedModel, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' hidden states [N, H] and logits [N, V] of a text by itself."""
    with torch.no_grad():
        hidden = module.base_model(input_ids=text[None], use_cache=False).last_hidden_state[0]
        return hidden, module(input_ids=text[None], use_cache=False).logits[0]


def exact_norms(module: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers' norms compute in float64, which they round to float32."""

    def forward(norm: Any, state: torch.Tensor) -> torch.Tensor:
        eps = getattr(norm, "variance_epsilon", None) or norm.eps
        weight = norm.weight + ("Gemma" in type(norm).__name__)
        return state * torch.rsqrt(state.square().mean(-1, keepdim=True) + eps) * weight

    monkeypatch.setattr(type(module.base_model.norm), "forward", forward)


@pytest.mark.parametrize("kind", DECODED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_transformers(kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: transformers' forward of each text alone; in float64, with its norms exact too, to 1e-12."""
    module = random_module(kind, dtype=dtype)
    if dtype == torch.float64:
        exact_norms(module, monkeypatch)
    assert can_decode(module)
    decoder = Decoder(module)
    close = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 2e-5}
    texts = [tokens(LENGTH), tokens(1, seed=1), tokens(9, seed=2)]
    for text, hidden in zip(texts, decoded(decoder, texts), strict=True):
        expected, logits = plain(module, text)
        torch.testing.assert_close(hidden, expected, **close)
        with torch.inference_mode():
            torch.testing.assert_close(decoder.logits(hidden), logits, rtol=0, atol=20 * close["atol"])


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3_text"])
def test_bfloat16_is_nearer_than_transformers(kind: str) -> None:
    """Oracle: the same rounded weights in float64; the decoder, in float32 between products, errs less."""
    module = random_module(kind, dtype=torch.bfloat16)
    exact = plain(random_module(kind, dtype=torch.bfloat16).to(torch.float64), tokens())[0]
    decoder = Decoder(module)
    (hidden,) = decoded(decoder, [tokens()])
    assert (hidden.dtype, decoder.logits(hidden).dtype) == (torch.float32, torch.bfloat16)

    def error(got: torch.Tensor) -> float:
        return float((got.double() - exact).square().mean().sqrt())

    assert error(hidden) < error(plain(module, tokens())[0]) < 0.1


def test_longer_texts_than_before() -> None:
    """Oracle: transformers; positions far past the tables that a short text made."""
    module = random_module("llama-yarn")
    decoder = Decoder(module)
    for count in (2, 5, 300):
        torch.testing.assert_close(
            decoded(decoder, [tokens(count)])[0], plain(module, tokens(count))[0], rtol=0, atol=5e-5
        )


def step(module: PreTrainedModel, **settings: Any) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr=0.1, **settings)
    module(input_ids=tokens()[None], labels=tokens()[None]).loss.backward()
    optimiser.step()


def replace(module: PreTrainedModel) -> None:
    attention = module.base_model.layers[1].self_attn
    attention.k_proj.weight = nn.Parameter(attention.k_proj.weight.detach() + 0.1)


def write(module: PreTrainedModel, name: str) -> None:
    with torch.no_grad():
        module.get_parameter(name)[..., ::2].add_(0.3)


CHANGES: dict[str, Callable[[PreTrainedModel], None]] = {
    "a weight in place": partial(write, name="model.layers.2.mlp.down_proj.weight"),
    "a norm in place": partial(write, name="model.layers.0.input_layernorm.weight"),
    "the embedding in place": partial(write, name="model.embed_tokens.weight"),
    "the head in place": partial(write, name="lm_head.weight"),
    "a weight replaced": replace,
    "a step of an optimiser": step,
    "a step of a fused optimiser": partial(step, fused=True),
    "loaded weights": lambda module: module.load_state_dict(
        {name: weight * 1.1 for name, weight in module.state_dict().items()}
    ),
}


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
@pytest.mark.parametrize("change", CHANGES)
def test_follows_the_weights(kind: str, change: str) -> None:
    """Oracle: transformers after the change; `refresh` says once that there was one."""
    module = random_module(kind)
    decoder = Decoder(module)
    before = logits_of(decoder)
    assert not decoder.refresh()
    CHANGES[change](module)
    assert decoder.refresh() and not decoder.refresh()
    logits = logits_of(decoder)
    torch.testing.assert_close(logits, plain(module, tokens())[1], rtol=0, atol=5e-4)
    assert (logits - before).abs().max() > 1e-2


def hooked(module: PreTrainedModel) -> PreTrainedModel:
    module.base_model.layers[1].register_forward_hook(lambda layer, given, out: out)
    return module


def hooked_before(module: PreTrainedModel) -> PreTrainedModel:
    module.base_model.layers[1].mlp.register_forward_pre_hook(lambda layer, given: given)
    return module


def offloaded(module: PreTrainedModel) -> PreTrainedModel:
    from accelerate.hooks import ModelHook, add_hook_to_module

    add_hook_to_module(module.base_model.layers[0], ModelHook())
    return module


def adapted(module: PreTrainedModel) -> PreTrainedModel:
    from peft import LoraConfig, get_peft_model

    peft = get_peft_model(module, LoraConfig(r=2, target_modules=["q_proj"]))
    return peft.base_model.model


class Quantised(nn.Linear):
    """As quantised layers are: a class of its own, with weights that are not what they look like."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).round(decimals=1)


def quantised(module: PreTrainedModel) -> PreTrainedModel:
    module.base_model.layers[0].mlp.down_proj = Quantised(48, 32, bias=False)
    return module


def normalised(module: PreTrainedModel) -> PreTrainedModel:
    parametrizations.weight_norm(module.base_model.layers[0].mlp.down_proj)
    return module


def pruned(module: PreTrainedModel) -> PreTrainedModel:
    prune.l1_unstructured(module.base_model.layers[0].mlp.down_proj, "weight", amount=0.5)
    return module


class Doubled(LlamaForCausalLM):
    """A class of somebody's own; its configuration says llama."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        out.logits = 2 * out.logits
        return out


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
REFUSED: dict[str, Callable[[], PreTrainedModel]] = {
    "another architecture": lambda: random_module("gpt2"),
    "logits capped": lambda: random_module("gemma3_text", final_logit_softcapping=30.0),
    "attention capped": lambda: random_module("gemma3_text", attn_logit_softcapping=50.0),
    "attention both ways": lambda: random_module("gemma3_text", use_bidirectional_attention=True),
    "positions by length": lambda: random_module("llama", rope_parameters=DYNAMIC),
    "a hook": lambda: hooked(random_module()),
    "a hook before": lambda: hooked_before(random_module()),
    "a forward replaced by accelerate": lambda: offloaded(random_module()),
    "low-rank adapters": lambda: adapted(random_module()),
    "a quantised layer": lambda: quantised(random_module()),
    "a reparametrised layer": lambda: normalised(random_module()),
    "a pruned layer": lambda: pruned(random_module()),
    "a class of somebody's own": lambda: Doubled(random_module().config),
    "no vocabulary layer": lambda: random_module().base_model,
}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("what", REFUSED)
def test_does_not_decode(what: str) -> None:
    """Limit: what is not the plain layers of a known kind is left to transformers."""
    assert not can_decode(REFUSED[what]())
