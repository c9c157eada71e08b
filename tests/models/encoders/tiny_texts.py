"""A tiny BERT with random weights and a tokenizer of its own, in the layouts of the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch

from selfstudy.models.encoders.pretrained_texts import quiet

TEXTS = (
    "the parcel is late and the driver lost it",
    "my card was charged twice",
    "send it back",
    "",
    "The seam is broken, the colour faded; not good at all! I want a refund of the whole amount please.",
    "late",
    "naïve café 漢字 🙂",
)
VOCABULARY = 160
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tokenizer(*, cased: bool = False) -> Any:
    """Return a WordPiece tokenizer that knows the words of `TEXTS`, and other words by their letters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted(set(re.findall(r"\w+|[^\w\s]", " ".join(TEXTS).lower())))
    letters = sorted({letter for word in words for letter in word} | set("bqxz0123456789"))
    pieces = dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *words])
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    assert len(vocabulary) <= VOCABULARY
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=not cased)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=made, **{f"{kind}_token": token for kind, token in names.items()}
    )


def network(**fields: Any) -> Any:
    """Return a BERT of 16 features, whose weights are large enough to tell texts apart."""
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"max_position_embeddings": 32, "vocab_size": VOCABULARY, "initializer_range": 0.3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertModel(BertConfig(**{**sizes, **more, **fields})).eval()


def hub_folder(folder: Path, *, cased: bool = False, **fields: Any) -> Any:
    """Write network and tokenizer as transformers does; return the network."""
    made = network(**fields)
    with quiet():
        made.save_pretrained(folder)
    tokenizer(cased=cased).save_pretrained(folder)
    return made


def write(folder: Path, **files: Any) -> None:
    """Write JSON files; two underscores in a name stand for a slash, and .json is added."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def modules(*kinds: str, first: str = "") -> list[dict[str, Any]]:
    """Return what modules.json says of a transformer in the folder `first` and of these modules behind it."""
    paths = [first, *(f"{place}_{kind}" for place, kind in enumerate(kinds, start=1))]
    return [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(zip(("Transformer", *kinds), paths, strict=True))
    ]


def by_hand(folder: Path, texts: tuple[str, ...], *, pooling: str = "mean", length: int = 32) -> torch.Tensor:
    """Return the features of texts one by one, without padding, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    with quiet():
        found = AutoModel.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.no_grad():
        for text in texts:
            inputs = words(text, truncation=True, max_length=length, return_tensors="pt")
            last = found(input_ids=inputs["input_ids"]).last_hidden_state[0]
            rows.append(last.mean(0) if pooling == "mean" else last[0])
    return torch.stack(rows)
