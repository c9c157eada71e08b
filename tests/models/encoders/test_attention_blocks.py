"""Blocks of a transformer over few tokens."""

from __future__ import annotations

import torch

from selfstudy.models.encoders.attention_blocks import Block


def test_a_block_is_torchs_layer() -> None:
    """Oracle: torch.nn.TransformerEncoderLayer with the same weights: values and gradients."""
    torch.manual_seed(0)
    block, other = Block(16, 4, 24), torch.nn.TransformerEncoderLayer(16, 4, 24, 0.0, batch_first=True)
    other.self_attn.in_proj_weight.data = block.qkv.weight.data
    other.self_attn.in_proj_bias.data = block.qkv.bias.data
    pairs = [(block.out, other.self_attn.out_proj), (block.up, other.linear1), (block.down, other.linear2)]
    pairs += [(block.first_norm, other.norm1), (block.second_norm, other.norm2)]
    for mine, theirs in pairs:
        theirs.load_state_dict(mine.state_dict())
    tokens = torch.randn(5, 7, 16)
    mine, theirs = tokens.clone().requires_grad_(True), tokens.clone().requires_grad_(True)
    found, expected = block(mine), other(theirs)
    assert torch.allclose(found, expected, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-4)


def test_dropout_is_for_training_alone() -> None:
    """Oracle: in evaluation two passes are equal, and equal those of the block without dropout."""
    torch.manual_seed(0)
    block, tokens = Block(8, 2, 8, dropout=0.5), torch.randn(3, 4, 8)
    assert not torch.equal(block(tokens), block(tokens))
    block.eval()
    plain = Block(8, 2, 8)
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block(tokens), plain(tokens))
