"""Text encoders of transformers that can still tell hidden words: their head comes along."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.models.encoders import pretrained_texts as files
from selfstudy.models.encoders.pretrained import explained, require_trained, without_dropout
from selfstudy.models.encoders.sentence_layout import SentenceLayout, write_layout
from selfstudy.models.encoders.text_base import Tokens
from selfstudy.models.encoders.text_transformers import TextTransformer, text_encoder
from selfstudy.models.small import CONFIG

HEADS = ("cls", "lm_head")  # what transformers calls the part that tells words, of BERT and of RoBERTa


class MaskedTextTransformer(TextTransformer):
    """A text encoder with the head it was pre-trained with; `mlm:ID` makes it.

    Its folder is one of sentence-transformers and of transformers: `AutoModelForMaskedLM.from_pretrained`
    reads it too.

    Args:
        network: the encoder, without the head; its dropout is 0.
        head: from last states [..., width] to scores of words; weights that it shares stay shared.
        tokenizer: a fast one.
        layout: how features are made of the last layer.
        source: hub id or folder that it came from.
    """

    kind: ClassVar[str] = "masked-text"

    def __init__(self, network: Any, head: Any, tokenizer: Any, layout: SentenceLayout, source: str) -> None:
        super().__init__(network, tokenizer, layout, source)
        self.head = head

    @property
    def name(self) -> str:
        """The specification that loads it anew."""
        return f"mlm:{self.config['source']}?length={self.length}&pooling={self.layout.pooling}"

    def states(self, tokens: Tokens) -> torch.Tensor:
        """Return the last state of each token: [N, T, width]; with gradients."""
        return self.network(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state

    def word_scores(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits [K, vocabulary] of the words behind states [K, width]."""
        return self.head(states)

    def save(self, folder: Path) -> None:
        """Write encoder, head, tokenizer and layout, as sentence-transformers and transformers do."""
        from transformers import AutoModelForMaskedLM

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            whole = AutoModelForMaskedLM.from_config(self.network.config)
        setattr(whole, whole.base_model_prefix, self.network)
        setattr(whole, _head(whole, str(folder)), self.head)
        files.write_network(folder, whole)
        files.write_tokenizer(folder, self.tokenizer, self.length)
        write_layout(folder, self.layout, self.width)
        ours = {"source": self.config["source"], "layout": asdict(self.layout)}
        write_json(folder / CONFIG, {**read_json(folder / CONFIG), "kind": self.kind, "selfstudy": ours})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        said = read_json(Path(folder) / CONFIG)["selfstudy"]
        _, tokenizer = files.read_encoder(str(folder))
        network, head = _read(str(folder))
        return cls(network, head, tokenizer, SentenceLayout(**said["layout"]), said["source"]).eval()


def masked_text_encoder(name: str, *, length: int = 0, pooling: str = "") -> MaskedTextTransformer:
    """Return a text encoder of transformers that tells hidden words, with its trained weights.

    Args:
        name: `owner/name` on the Hugging Face hub, or a folder in its layout, such as BERT's or RoBERTa's.
        length: tokens of a text that are read, as in `text_encoder`.
        pooling: as in `text_encoder`.

    Raises:
        UsageError: there is no such model, it is none that encodes texts, or it comes without its head.
    """
    plain = text_encoder(name, length=length, pooling=pooling)
    network, head = _read(name)
    return MaskedTextTransformer(network, head, plain.tokenizer, plain.layout, name).eval()


def _read(name: str) -> tuple[Any, Any]:
    """Return the encoder, without dropout, and the head."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    with explained(name, files.WHAT, files.ADVICE), files.quiet(), torch.random.fork_rng(devices=[]):
        config = without_dropout(AutoConfig.from_pretrained(name))
        options = {"config": config, "dtype": torch.float32, "output_loading_info": True}
        whole, found = AutoModelForMaskedLM.from_pretrained(name, **options)
    require_trained(name, sorted(found["missing_keys"]))
    return whole.base_model, getattr(whole, _head(whole, name))


def _head(whole: Any, name: str) -> str:
    found = next((head for head in HEADS if hasattr(whole, head)), None)
    if found is None:
        raise UsageError(
            f"{name!r} is a {whole.config.model_type} model, whose head for hidden words is not known. Take "
            "one of the kind of BERT or RoBERTa."
        )
    return found
