"""Separate learning rates by the names of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from selfstudy.core.errors import UsageError
from selfstudy.learning.groups import parameter_groups
from selfstudy.models.attention_decoder import AttentionDecoder

RATES = {"attention": 0.1, "decoder": 2.0}


def names(module: nn.Module, groups: list[dict]) -> dict[str, set[str]]:
    """The names of the weights of each group."""
    by_id = {id(weight): name for name, weight in module.named_parameters()}
    return {group["name"]: {by_id[id(weight)] for weight in group["params"]} for group in groups}


@pytest.mark.parametrize("width", [0, 3])
def test_attention_and_decoder(width: int) -> None:
    """Oracle: the names by hand; one step of SGD moves each matrix by its own rate."""
    model = AttentionDecoder(vocabulary=6, width=width)
    groups = parameter_groups(model, RATES)
    found = names(model, groups)
    assert all(".attention." in name for name in found["attention"])
    assert all(".decoder." in name for name in found["decoder"])
    assert len(found["attention"]) == len(found["decoder"]) == (2 if width else 1)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    torch.optim.SGD(groups).step()
    for name, weight in model.named_parameters():
        rate = RATES["attention" if ".attention." in name else "decoder"]
        torch.testing.assert_close(before[name] - weight, torch.full_like(weight, rate))


def test_decoders_of_transformers() -> None:
    """Oracle: the names of queries and keys in each architecture, by hand."""
    small = {"vocab_size": 20, "max_position_embeddings": 16}
    llama = LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, **small)
    )
    found = names(llama, parameter_groups(llama, RATES))
    assert found["attention"] == {
        f"model.layers.{i}.self_attn.{which}_proj.weight" for i in range(2) for which in "qk"
    }
    assert found["attention"] | found["decoder"] == {name for name, _ in llama.named_parameters()}
    gpt = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=16))
    attention = names(gpt, parameter_groups(gpt, RATES))["attention"]
    assert attention == {f"transformer.h.0.attn.c_attn.{kind}" for kind in ("weight", "bias")}
    bert = BertLMHeadModel(
        BertConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            is_decoder=True,
            **small,
        )
    )
    attention = names(bert, parameter_groups(bert, RATES))["attention"]
    assert attention == {
        f"bert.encoder.layer.0.attention.self.{which}.{kind}"
        for which in ("query", "key")
        for kind in ("weight", "bias")
    }


def test_what_is_refused() -> None:
    """Oracle: other groups than patterns, a group without weights, a weight without a group."""
    model = AttentionDecoder(vocabulary=6)
    with pytest.raises(UsageError, match="attention"):
        parameter_groups(model, {"attention": 0.1})
    with pytest.raises(UsageError, match=r"'attention'.*0\.weight"):
        parameter_groups(nn.Sequential(nn.Linear(2, 2)), RATES)
    with pytest.raises(UsageError, match="decoder"):
        parameter_groups(model, {"attention": 0.1}, {"attention": "attention"})


def test_frozen_weights_have_no_group() -> None:
    """Oracle: a weight that asks for no gradient is in none."""
    model = AttentionDecoder(vocabulary=6, width=2)
    model.attention.pre.requires_grad_(False)
    assert names(model, parameter_groups(model, RATES))["attention"] == {"blocks.0.attention.post"}
