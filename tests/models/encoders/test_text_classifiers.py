"""Classifiers on text encoders in the form of transformers: what other tools get is what we give."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import AdapterHead, LinearHead, MlpHead, OneVersusAllHead
from selfstudy.models.encoders.text_classifiers import TextClassifier, cut
from selfstudy.models.encoders.text_transformers import text_encoder

from .tiny_texts import TEXTS, hub_folder, modules, tokenizer, write

CLASSES = ("bad", "so, so", "gut ☺")
HEADS = {
    "linear": lambda: LinearHead(width=16, classes=3),
    "adapter": lambda: AdapterHead(width=16, adapted=4, classes=3, scale=3.0, key=1),
    "mlp": lambda: MlpHead(width=16, hidden=[8, 4], classes=3, dropout=0.5, key=1),
    "machines": lambda: OneVersusAllHead(width=16, classes=3),
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def classifier(folder: Path, head: str = "linear", **layout: Any) -> FeatureClassifier:
    """Return one whose weights and statistics are none of the first ones."""
    hub_folder(folder, hidden_dropout_prob=0.3)
    write(folder, **layout)
    made = FeatureClassifier(text_encoder(str(folder), length=12), HEADS[head](), CLASSES)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, value in made.head.state_dict().items():
            noise = 0.5 * torch.randn_like(value)
            value.add_(noise.abs() if name == "deviation" else noise)
    return made.eval()


def told(pipe: Any, texts: tuple[str, ...], **options: Any) -> np.ndarray:
    """Return what a pipeline of transformers says: [N, C]."""
    rows = [{one["label"]: one["score"] for one in row} for row in pipe(list(texts), top_k=None, **options)]
    return np.array([[row[name] for name in CLASSES] for row in rows])


@pytest.mark.parametrize("head", HEADS)
def test_transformers_gives_the_same_probabilities(tmp_path: Path, head: str) -> None:
    """Oracle: our own classifier, before it was saved; the source is deleted; texts longer than it reads."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    made = classifier(tmp_path / "hub", head, modules=modules("Pooling", "Normalize"))
    texts = (*TEXTS, "late again " * 300)
    expected = made.probabilities(texts)
    assert expected.std(0).max() > 1e-2, "the probabilities tell the texts apart"
    made.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "hub")
    found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    words = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert isinstance(found, TextClassifier) and found.config.id2label == dict(enumerate(CLASSES))
    with torch.no_grad():
        logits = found(**words(list(texts), padding=True, truncation=True, return_tensors="pt")).logits
    assert np.allclose(logits.softmax(1).numpy(), expected, atol=1e-5)
    pipe = pipeline("text-classification", model=str(tmp_path / "saved"))
    for batch in (1, len(texts)):
        assert np.allclose(told(pipe, texts, batch_size=batch), expected, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_it_is_saved_and_loaded(tmp_path: Path, head: str) -> None:
    """Oracle: weights, configuration and probabilities, bit for bit, without its source."""
    made = classifier(tmp_path / "hub", head)
    expected = made.probabilities(TEXTS)
    made.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "hub")
    again = FeatureClassifier.load(tmp_path / "saved")
    one, other = made.state_dict(), again.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert again.classes == CLASSES and type(again.head) is type(made.head) and not again.training
    assert again.encoder.config == made.encoder.config and again.name == made.name
    assert np.array_equal(again.probabilities(TEXTS), expected)


def test_lower_case_and_prompts_travel_with_the_tokenizer(tmp_path: Path) -> None:
    """Oracle: our own classifier of a model that asks for both."""
    from transformers import pipeline

    made = classifier(
        tmp_path / "hub",
        modules=modules("Pooling"),
        sentence_bert_config={"do_lower_case": True},
        config_sentence_transformers={"prompts": {"q": "send it "}, "default_prompt_name": "q"},
    )
    made.save(tmp_path / "saved")
    pipe = pipeline("text-classification", model=str(tmp_path / "saved"))
    assert np.allclose(told(pipe, TEXTS[:3]), made.probabilities(TEXTS[:3]), atol=1e-5)
    assert not np.allclose(made.probabilities(["late"]), made.probabilities(["send it late"]), atol=1e-4)


def test_it_can_be_trained_further(tmp_path: Path) -> None:
    """Oracle: cross-entropy of its logits; a step of its gradient lowers it."""
    made = classifier(tmp_path / "hub")
    made.save(tmp_path / "saved")
    found = TextClassifier.from_pretrained(tmp_path / "saved").train()
    inputs = {**tokenizer()(list(TEXTS), padding=True, return_tensors="pt"), "labels": torch.arange(7) % 3}
    first = found(**inputs)
    assert first.loss == torch.nn.functional.cross_entropy(first.logits, inputs["labels"])
    first.loss.backward()
    with torch.no_grad():
        for weight in found.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad
    assert found(**inputs).loss < first.loss


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(3, 20))
def test_long_texts_are_cut_as_the_tokenizer_cuts_them(lengths: list[int], length: int) -> None:
    """Law: tokens without truncation, then `cut`, are the tokens with truncation."""
    words = tokenizer()
    texts = [" ".join(["late", "card", "not"][place % 3] for place in range(count)) for count in lengths]
    whole = words(texts, padding=True, return_tensors="pt")
    expected = words(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    ids, mask = cut(whole["input_ids"], whole["attention_mask"], length, ending=1)
    assert torch.equal(ids, expected["input_ids"]) and torch.equal(mask, expected["attention_mask"])
