"""The compiled training pass against transformers' module and torch's gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from selfstudy.models.language import memory
from selfstudy.models.language.packed_texts import Packed, Packing
from selfstudy.models.language.scoring import completion_logits, completion_logprobs
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.models.language.training_pass import can_train, packed_logits

from .random_models import random_module

KINDS = ("llama", "llama-wide-heads", "llama-llama3", "llama-yarn", "llama-linear")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """With more threads than a few the module itself is taken."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def texts(rng: np.random.Generator) -> tuple[Packed, list[tuple[list[int], int]]]:
    """Packed texts, and each alone with the number of its tokens before the first wanted logits."""
    packing, alone = Packing(), []

    def drawn(count: int) -> list[int]:
        return rng.integers(0, 16, count).tolist()

    for prompt, answers in ((3, ()), (9, (4, 1, 20)), (80, (5,)), (1, (1, 2))):
        tokens = drawn(prompt)
        packing.add(tokens, after=prompt - 1)
        alone.append((tokens, prompt - 1))
        stem = packing.last
        for count in answers:
            more = drawn(count)
            packing.add(more, stem=stem)
            alone.append(([*tokens, *more], prompt))
    return packing.done(), alone


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_gradients(kind: str) -> None:
    """Oracle: transformers' module on each text alone, tied weights and shared keys too."""
    module = random_module(kind)
    assert can_train(module)
    packed, alone = texts(np.random.default_rng(0))
    ours = packed_logits(module, packed)
    plain = torch.cat([module(torch.tensor([tokens])).logits[0, first:] for tokens, first in alone])
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-4)
    given = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    found = [torch.autograd.grad(logits, list(module.parameters()), given) for logits in (ours, plain)]
    for (name, _), a, b in zip(module.named_parameters(), *found, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5 * float(b.abs().max()), rtol=1e-3, msg=name)


def test_two_passes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: each alone; memory, of many pieces here, is not lent again while its gradient may be wanted."""
    module = random_tiny_model(2, 32).module
    packed = [texts(np.random.default_rng(seed))[0] for seed in (0, 1)]

    def gradient(logits: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(logits.square().sum(), [module.base_model.layers[0].mlp.up_proj.weight])[0]

    alone = [gradient(packed_logits(module, one)) for one in packed]
    monkeypatch.setattr(memory, "CHUNK", 1000)
    together = [gradient(logits) for logits in [packed_logits(module, one) for one in packed]]
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a, b)


def test_the_padding_token_learns_nothing() -> None:
    """Oracle: torch's embedding, whose row for padding has no gradient."""
    module = random_tiny_model(1, 32).module
    packing = Packing()
    packing.add([1, module.config.pad_token_id, 2])
    packed_logits(module, packing.done()).sum().backward()
    gradient = module.get_input_embeddings().weight.grad
    assert gradient is not None and not gradient[module.config.pad_token_id].any() and gradient[1].any()


def test_log_probabilities_of_completions() -> None:
    """Oracle: the padded logits of transformers' module, in value and gradient."""
    module = random_module("llama")
    sequences = [([1, 2, 3, 4, 5], 2), ([7, 8], 1), ([3, 3, 9, 1], 3)]
    logits, tokens, counted = completion_logits(module, sequences)
    logs = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    plain = (logs * counted).sum(1)
    ours = completion_logprobs(module, sequences)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    weight = module.base_model.layers[1].self_attn.k_proj.weight
    found = [torch.autograd.grad(each @ torch.tensor([1.0, -2, 3]), [weight])[0] for each in (ours, plain)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


def _frozen(module: Any) -> Any:
    module.base_model.norm.weight.requires_grad_(False)
    return module


def _hooked(module: Any) -> Any:
    module.base_model.layers[0].register_full_backward_hook(lambda *_: None)
    return module


def _dropping(module: Any) -> Any:
    module.base_model.layers[-1].self_attn.attention_dropout = 0.1
    return module.train()


def _checkpointed(module: Any) -> Any:
    module.activation_checkpointing_enable()
    return module.train()


def _adapted(module: Any) -> Any:
    return get_peft_model(module, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, about what peft calls
@pytest.mark.parametrize(
    "module",
    [
        lambda: _frozen(random_module()),
        lambda: _hooked(random_module()),
        lambda: _dropping(random_module()),
        lambda: _checkpointed(random_module()),
        lambda: _adapted(random_module()),
        lambda: random_module(dtype=torch.bfloat16),
        lambda: random_module("llama-biased"),
        lambda: random_module(hidden_size=40, head_dim=8),
        lambda: random_module(hidden_act="relu"),
        lambda: random_module("qwen3"),
        lambda: random_module("gpt2"),
        lambda: torch.nn.Linear(2, 2),
    ],
)
def test_what_is_left_to_transformers(module: Callable[[], Any]) -> None:
    """Oracle: a plain Llama is not, and each of these differs from one in what a pass does not know."""
    assert can_train(random_module())
    assert not can_train(module())


def test_mixed_precision_and_reading_alone_are_left_to_torch() -> None:
    """Oracle: the same module outside of the contexts."""
    module = random_module()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not can_train(module)
    with torch.no_grad():
        assert not can_train(module)
    assert can_train(module)


def test_weights_stay_until_the_gradient_is_taken() -> None:
    """Oracle: torch, which refuses a gradient of weights that were written to after the forward pass."""
    module = random_tiny_model(1, 32).module
    packed, _ = texts(np.random.default_rng(0))
    logits = packed_logits(module, packed)
    with torch.no_grad():
        module.base_model.norm.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits.sum().backward()
