"""Value models read texts, whatever the tokens of the policy that wrote them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import character_tokenizer
from selfstudy.models.language.value import ValueModel
from selfstudy.search.mcts import TreeSearch, grow
from selfstudy.search.reasoning import ReasoningDomain, posed

from .random_models import random_module


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def bytes_model() -> LanguageModel:
    """A model over 256 bytes: other tokens, and other numbers for the same characters, than the policy's."""
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    module = random_module("qwen3", vocab_size=len(vocabulary), eos_token_id=None)
    return LanguageModel("bytes", module, PreTrainedTokenizerFast(tokenizer_object=inner))


@pytest.mark.parametrize("likelihood", [False, True])
def test_a_search_whose_policy_has_another_vocabulary(likelihood: bool) -> None:
    """Oracle: the value model without a memory, on the text of each state; tokens charged are its own."""
    policy = selfstudy.model("tiny-lm")
    value = ValueModel.from_policy(bytes_model(), likelihood=likelihood)
    with torch.no_grad():
        value.net.head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    assert value.reader.encode("47+8:") != policy.encode("47+8:")
    task, meter = selfstudy.task("chain100?steps=2&train=2&validation=0&test=1"), Meter()
    domain = ReasoningDomain(task, task.train, policy, value, meter, temperature=1.0)
    keys = np.arange(2, dtype=np.uint64)
    forest = grow(domain, range(2), TreeSearch(iterations=3, branch=2), keys, collect=False)
    states = [forest.state(t, n) for t in range(2) for n in range(int(forest.size[t]))]
    assert len(set(states)) >= 6
    prefixes = [(posed(policy, task, task.train[p]), path) for p, path in states]
    plain_meter = Meter()
    expected = value.values(prefixes, plain_meter)
    np.testing.assert_allclose(domain.values(states), expected, atol=2e-5)
    assert np.unique(expected.round(4)).size > 3
    charged, most = (each.snapshot()["scored_tokens"] for each in (meter, plain_meter))
    read = {tuple(row[: n + 1]) for row, _, _ in value.tokens(prefixes) for n in range(len(row))}
    assert len(read) <= charged < most


def test_characters_that_the_value_model_does_not_know() -> None:
    """Oracle: the message says that it is the value model, not the policy, and what to do."""
    poor = LanguageModel("poor", random_module(vocab_size=17), character_tokenizer("0123456789+-=:\n"))
    value = ValueModel.from_policy(poor)
    for prefix in (("2*3:", ()), ("2+3:", ("2*3=6",))):
        with pytest.raises(DataError, match=r"value model 'value of poor' .* such as '2\*3.*fitted for this"):
            value.values([prefix])
