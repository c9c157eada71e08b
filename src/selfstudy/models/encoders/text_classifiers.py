"""A classifier on a text encoder in the form of transformers, which other tools load.

Importing this module tells transformers about it:

    import selfstudy.models.encoders.text_classifiers
    from transformers import pipeline

    classify = pipeline("text-classification", model="runs/reviews/model")
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.models.encoders.feature_heads import Head
from selfstudy.models.encoders.pretrained_texts import quiet, write_network, write_tokenizer
from selfstudy.models.encoders.sentence_layout import SentenceLayout
from selfstudy.models.encoders.text_transformers import TextTransformer, architecture, pooled

MODEL_TYPE = "selfstudy-text-classifier"


class TextClassifierConfig(PretrainedConfig):
    """What makes a `TextClassifier` anew.

    Args:
        encoder: configuration of the network, as JSON data.
        layout: how features are made, fields of `SentenceLayout`.
        head: "kind" and "config" of the head.
        source: where the encoder came from.
        ending: tokens that the tokenizer puts behind a text.
        more: fields of every transformers configuration.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        layout: dict[str, Any] | None = None,
        head: dict[str, Any] | None = None,
        source: str = "",
        ending: int = 1,
        **more: Any,
    ) -> None:
        self.encoder, self.layout, self.head = encoder or {}, layout or {}, head or {}
        self.source, self.ending = source, ending
        super().__init__(**more)


class TextClassifier(PreTrainedModel):
    """An encoder of transformers, pooling, and a head of `feature_heads`; gives logits.

    Texts that are longer than the encoder was trained for are cut as its tokenizer cuts them.
    """

    config_class = TextClassifierConfig
    main_input_name = "input_ids"

    def __init__(self, config: TextClassifierConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(**config.encoder))
        self.head = find_class(config.head["kind"], Path("config.json"))(**config.head["config"])
        self.layout = SentenceLayout(**config.layout)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Return logits [B, C] of tokens [B, T], and the cross-entropy where `labels` [B] are given."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        ids, mask = cut(input_ids, mask, self.layout.length, self.config.ending)
        logits = self.head(pooled(self.encoder, ids, mask, self.layout))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


def cut(ids: torch.Tensor, mask: torch.Tensor, length: int, ending: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shorten tokens [B, T], padded at their ends, to `length`; the last `ending` of a text stay."""
    if ids.shape[1] <= length:
        return ids, mask
    places = torch.arange(length, device=ids.device).expand(len(ids), length)
    behind = (mask.sum(1, keepdim=True) - length).clamp(min=0)  # tokens to be left out of each text
    places = torch.where(places >= length - ending, places + behind, places)
    return ids.gather(1, places), mask.gather(1, places)


def save_classifier(folder: Path, encoder: TextTransformer, head: Head, classes: tuple[str, ...]) -> None:
    """Write a classifier as `AutoModelForSequenceClassification` and `AutoTokenizer` read it."""
    config = TextClassifierConfig(
        encoder=architecture(encoder.network.config),
        layout=asdict(encoder.layout),
        head={"kind": name_class(type(head)), "config": head.config},
        source=encoder.config["source"],
        ending=_ending(encoder.tokenizer),
        id2label=dict(enumerate(classes)),
        label2id={name: code for code, name in enumerate(classes)},
        problem_type="single_label_classification",
        pad_token_id=encoder.tokenizer.pad_token_id,
    )
    with torch.device("meta"):
        model = TextClassifier(config)
    model.encoder, model.head = encoder.network, head
    folder.mkdir(parents=True, exist_ok=True)
    write_network(folder, model)
    write_tokenizer(folder, encoder.tokenizer, encoder.length)


def load_classifier(folder: Path) -> tuple[TextTransformer, Head]:
    """Read the encoder and the head that `save_classifier` wrote."""
    with quiet(), torch.random.fork_rng(devices=[]):
        model = TextClassifier.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = TextTransformer(model.encoder, tokenizer, model.layout, model.config.source)
    return encoder.eval(), model.head.eval()


def _ending(tokenizer: Any) -> int:
    """Return how many tokens a tokenizer puts behind a text."""
    special = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return next((place for place, own in enumerate(reversed(special)) if not own), 0)


AutoConfig.register(MODEL_TYPE, TextClassifierConfig, exist_ok=True)
AutoModelForSequenceClassification.register(TextClassifierConfig, TextClassifier, exist_ok=True)
