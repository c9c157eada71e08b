"""Models by name: the small ones of the laboratories, and language models."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from selfstudy.core.checkpoint import find_class
from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.files import read_json
from selfstudy.core.specs import make
from selfstudy.models.small import CONFIG

# Name -> "module:class or function"; its keyword-only parameters are the fields of the specification.
NAMES = {
    "linear-attention": "selfstudy.models.in_context.linear_attention:LinearSelfAttention",
    "bilinear-attention": "selfstudy.models.in_context.linear_attention:BilinearAttention",
    "embedded-attention": "selfstudy.models.in_context.embedded:EmbeddedAttention",
    "paired-tokens": "selfstudy.models.in_context.paired_tokens:PairedTokens",
    "sequence-transformer": "selfstudy.models.in_context.sequences:SequenceTransformer",
    "sequence-lstm": "selfstudy.models.in_context.sequence_baselines:SequenceLstm",
    "sequence-mlp": "selfstudy.models.in_context.sequence_baselines:SequenceMlp",
    "sequence-fast-weights": "selfstudy.models.in_context.sequence_baselines:SequenceFastWeights",
    "attention-decoder": "selfstudy.models.attention_decoder:AttentionDecoder",
    "byte-lm": "selfstudy.models.language.bytes:byte_lm",
    "top-down-bubble": "selfstudy.models.sorting.top_down:bubble",
    "top-down-insertion": "selfstudy.models.sorting.top_down:insertion",
    "top-down-selection": "selfstudy.models.sorting.top_down:selection",
    "conv": "selfstudy.models.encoders.convolution:ConvEncoder",
    "resnet": "selfstudy.models.encoders.convolution:ResidualEncoder",
    "mlp": "selfstudy.models.encoders.perceptron:PerceptronEncoder",
    "vit": "selfstudy.models.encoders.transformer:VisionTransformer",
    "mae": "selfstudy.models.encoders.masked_decoder:MaskedAutoencoder",
    "tabular-transformer": "selfstudy.models.encoders.tables:TabularTransformer",
    "kernel": "selfstudy.models.kernel_model:KernelModel",
    "gcn": "selfstudy.models.encoders.graphs:GraphEncoder",
    "flat": "selfstudy.models.encoders.flat:FlatEncoder",
    "words": "selfstudy.models.encoders.words:WordEncoder",
    "minilm": "selfstudy.models.encoders.text_transformers:minilm",
    "small-bert": "selfstudy.models.encoders.small_bert:SmallBert",
    "frequency-tagger": "selfstudy.models.tagging.frequency:FrequencyTagger",
    "trigram-tagger": "selfstudy.models.tagging.trigrams:TrigramTagger",
    "perceptron-tagger": "selfstudy.models.tagging.linear:PerceptronTagger",
    "logistic-tagger": "selfstudy.models.tagging.linear:LogisticTagger",
}
# Kinds that a saved model may have without being a name.
SAVED = {
    "vision": "selfstudy.models.encoders.backbones:Backbone",
    "vision-mae": "selfstudy.models.encoders.masked_backbones:MaskedBackbone",
    "text": "selfstudy.models.encoders.text_transformers:TextTransformer",
    "masked-text": "selfstudy.models.encoders.masked_texts:MaskedTextTransformer",
}
# What the folder of a run's trained classifier holds, such as runs/first/model.
CLASSIFIER, KIND = "classifier.json", "kind.json"
LANGUAGE = ("tiny-lm", "gemma-3-270m")  # names of language models
# Before a hub id or a folder of a transformers model.
BACKBONES = {
    "vision:": "selfstudy.models.encoders.backbones:backbone",
    "text:": "selfstudy.models.encoders.text_transformers:text_encoder",
    "mlm:": "selfstudy.models.encoders.masked_texts:masked_text_encoder",
}
SERVED = "openai:"  # before the address of a server


def model(spec: str) -> Any:
    """Return the model that `spec` names.

    One of `NAMES` with its fields, a folder that one or a classifier was saved to, `vision:`, `text:` or
    `mlm:` and a backbone of transformers, `openai:` and the address of a server, else a language model.

    Raises:
        UsageError: no model of that name, or an unknown field.
    """
    name, _, query = spec.partition("?")
    if name in NAMES:
        return make("model", name, query, NAMES[name])
    for prefix, target in BACKBONES.items():
        if name.startswith(prefix):
            return make("model", name, query, target, name.removeprefix(prefix))
    if name.startswith(SERVED):
        target = "selfstudy.models.language.served:Server"
        return make("model", name, query, target, name.removeprefix(SERVED)).connect()
    if (Path(spec) / CONFIG).is_file():
        target = {**NAMES, **SAVED}.get(read_json(Path(spec) / CONFIG).get("kind", ""), "")
        if target:
            module, _, network = target.partition(":")
            return getattr(importlib.import_module(module), network).load(Path(spec))
    if (Path(spec) / CLASSIFIER).is_file() and (Path(spec) / KIND).is_file():
        return find_class(read_json(Path(spec) / KIND), Path(spec) / KIND).load(Path(spec))
    hint = nearest(name, [*NAMES, *LANGUAGE])
    if name not in LANGUAGE and hint.startswith("Did") and "/" not in spec and not Path(spec).exists():
        raise UsageError(f"There is no model {spec!r}. {hint}")
    return make("model", name, query, "selfstudy.models.language.loading:language_model", name)
