"""Encoders of the hub that tell hidden words: scores and features of transformers, saved with their head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.learning.further_pretraining import trunk
from selfstudy.learning.masked_language import hide_words, masked_language_loss, tells_words
from selfstudy.models.encoders.pretrained_texts import quiet

from .tiny_texts import TEXTS, VOCABULARY, hub_folder, tokenizer


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def masked(folder: Path, kind: str) -> Any:
    """Write a whole masked language model as transformers does; return it."""
    from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    more: dict[str, Any] = {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "bert":
            made: Any = BertForMaskedLM(BertConfig(**sizes, **more))
        else:
            made = RobertaForMaskedLM(RobertaConfig(**sizes, **more, pad_token_id=0))
    with quiet():
        made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return made.eval()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_it_is_the_model_of_the_hub(kind: str, tmp_path: Path) -> None:
    """Oracle: the masked-LM loss and the states of transformers' whole model, before and after saving, which
    transformers reads as well; input and output words stay one tensor."""
    from transformers import AutoModelForMaskedLM

    whole = masked(tmp_path / "hub", kind)
    model = selfstudy.model(f"mlm:{tmp_path / 'hub'}?length=16")
    assert tells_words(model) and trunk(model) is model.network
    tokens = model.tokens(TEXTS)
    seen, targets = hide_words(tokens, model.words, model.hidden_token, key=3)
    expected = whole(input_ids=seen.ids, attention_mask=seen.mask, labels=targets).loss
    assert torch.allclose(masked_language_loss(model, TEXTS, key=3), expected, atol=1e-5)
    output = whole.get_output_embeddings().weight.shape
    assert sum(weight.shape == output for weight in model.parameters()) == 1
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    model.save(tmp_path / "saved")
    loaded = selfstudy.model(str(tmp_path / "saved"))
    told = masked_language_loss(model, TEXTS, key=3)
    assert torch.equal(masked_language_loss(loaded, TEXTS, key=3), told) and loaded.name == model.name
    with quiet():
        again = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved").eval()
    assert torch.allclose(
        again(input_ids=seen.ids, attention_mask=seen.mask, labels=targets).loss, told, atol=1e-5
    )
    assert torch.allclose(model.copy().embed_texts(TEXTS), model.embed_texts(TEXTS))


def test_one_without_its_head_is_refused(tmp_path: Path) -> None:
    """Oracle: an encoder that was saved alone lacks the weights of the head, which would be random."""
    hub_folder(tmp_path)
    with pytest.raises(UsageError, match="lacks"):
        selfstudy.model(f"mlm:{tmp_path}")
