"""Attention weights of a transformers decoder."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfstudy.core.errors import UsageError
from selfstudy.models.language.attention import record_attention


@pytest.fixture(scope="module")
def decoder() -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=20,
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
            )
        )


TOKENS = torch.tensor([[1, 5, 2, 9], [3, 3, 3, 3]])


def test_weights_are_those_of_the_equation(decoder: LlamaForCausalLM) -> None:
    """Oracle: softmax of q k / sqrt(d) of the first layer, by hand, for the first position's own rotation."""
    weights = record_attention(decoder, TOKENS)
    assert weights.shape == (2, 2, 2, 4, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 2, 4))
    assert (weights.triu(1) == 0).all()
    layer = decoder.model.layers[0]
    with torch.no_grad():
        hidden = layer.input_layernorm(decoder.model.embed_tokens(TOKENS))
        position = torch.arange(4)[None]
        cos, sin = decoder.model.rotary_emb(hidden, position)
        rotated = []
        for project in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            x = project(hidden).view(2, 4, 2, 4).transpose(1, 2)
            turned = torch.cat([-x[..., 2:], x[..., :2]], -1)
            rotated.append(x * cos[:, None] + turned * sin[:, None])
        scores = rotated[0] @ rotated[1].mT / math.sqrt(4)
        scores = scores.masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
    torch.testing.assert_close(weights[0].transpose(0, 1), scores.softmax(-1))


def test_chosen_layers_and_heads(decoder: LlamaForCausalLM) -> None:
    """Oracle: slices of everything; the model is left as it was."""
    decoder.train()
    before = decoder.config._attn_implementation
    everything = record_attention(decoder, TOKENS)
    torch.testing.assert_close(record_attention(decoder, TOKENS, [1], [1, 0]), everything[1:, [1, 0]])
    assert decoder.training and decoder.config._attn_implementation == before != "eager"


def test_there_is_no_such_layer(decoder: LlamaForCausalLM) -> None:
    """Oracle: two layers and two heads, from 0."""
    for bad in ({"layers": [2]}, {"heads": [-1]}, {"layers": []}):
        with pytest.raises(UsageError, match="2"):
            record_attention(decoder, TOKENS, **bad)
