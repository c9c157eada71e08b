"""A small BERT made from scratch, with a tokenizer of its own, whose weights can all be trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from selfstudy.core.errors import DataError, MachineError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.data.items import LONGEST, Texts
from selfstudy.models.encoders.text_base import TextEncoder, Tokens
from selfstudy.models.small import CONFIG

PAD, UNKNOWN, FIRST, LAST, HIDDEN = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL = (PAD, UNKNOWN, FIRST, LAST, HIDDEN)
LEAST_WORDS = 256 + len(SPECIAL)  # every byte is a word
AT_ONCE = 128  # texts embedded at once
NETWORK, WORDS = "network", "tokenizer.json"


class SmallBert(TextEncoder):
    """BERT in the small (Devlin et al. 2018): a text's feature is the mean over its tokens' last states.

    Its words are pieces found in the texts that it is made for (byte-level BPE, lower case). It knows nothing
    before it is trained, for instance by `selfstudy.learning.masked_language`. Saved, it is a folder whose
    `network` any tool reads: `transformers.AutoModelForMaskedLM.from_pretrained(folder / "network")`.

    Args:
        layers: transformer blocks.
        width: of the features.
        heads: of attention; they divide the width.
        vocabulary: most pieces of words; texts that have fewer are given those.
        length: tokens of a text that are read, the two at its ends included.
        dropout: in training.
        seed: of the first weights.

    Raises:
        UsageError: a size that cannot be.
    """

    kind: ClassVar[str] = "small-bert"

    def __init__(
        self,
        *,
        layers: int = 3,
        width: int = 128,
        heads: int = 4,
        vocabulary: int = 4000,
        length: int = 64,
        dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(
            layers=layers,
            width=width,
            heads=heads,
            vocabulary=vocabulary,
            length=length,
            dropout=dropout,
            seed=seed,
        )
        if min(layers, heads) < 1 or width < heads or width % heads:
            raise UsageError(
                f"The model 'small-bert' cannot have layers={layers}, width={width} and heads={heads}: give "
                "one or more, and a width that the heads divide."
            )
        if vocabulary < LEAST_WORDS or length < len((FIRST, LAST)) + 1 or not 0 <= dropout < 1:
            raise UsageError(
                f"The model 'small-bert' cannot have vocabulary={vocabulary}, length={length} and "
                f"dropout={dropout}: they must be at least {LEAST_WORDS}, at least 3, and from 0 to below 1."
            )
        self.width, self.length = width, length
        self.tokenizer: Any = None
        self.network = self._first_network()
        self.eval()

    def _first_network(self) -> Any:
        from transformers import BertConfig, BertForMaskedLM

        config = self.config
        architecture = BertConfig(
            vocab_size=config["vocabulary"],
            hidden_size=config["width"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            intermediate_size=4 * config["width"],
            max_position_embeddings=config["length"],
            hidden_dropout_prob=config["dropout"],
            attention_probs_dropout_prob=config["dropout"],
            type_vocab_size=1,
            pad_token_id=SPECIAL.index(PAD),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.generator().initial_seed())
            return BertForMaskedLM(architecture)

    @property
    def hidden_token(self) -> int:
        """The token that stands for a hidden one."""
        return SPECIAL.index(HIDDEN)

    @property
    def words(self) -> range:
        """The tokens that stand for pieces of words."""
        return range(len(SPECIAL), self.config["vocabulary"])

    def made_for(self, items: Texts) -> Self:
        """Return the encoder with the words of these texts; one that has words stays as it is.

        Raises:
            UsageError: images or vectors.
        """
        if not isinstance(items, Texts):
            raise UsageError(f"The model {self.kind!r} reads texts; {items.name!r} is none.")
        if self.tokenizer is not None:
            return self
        tokenizer = train_tokenizer(items.texts, self.config["vocabulary"], self.length)
        made = type(self)(**{**self.config, "vocabulary": len(tokenizer)})
        made.tokenizer = tokenizer
        return made

    def tokens(self, texts: Sequence[str]) -> Tokens:
        """Return texts as numbers, as long as the longest of them.

        Raises:
            UsageError: it has no words yet.
        """
        if self.tokenizer is None:
            raise UsageError("The model 'small-bert' has no words yet: call made_for(texts), or load one.")
        found = self.tokenizer(
            [text[:LONGEST] for text in texts], padding=True, truncation=True, return_tensors="pt"
        )
        return Tokens(found["input_ids"], found["attention_mask"])

    def states(self, tokens: Tokens) -> torch.Tensor:
        """Return the last state of each token: [N, T, width]; with gradients."""
        return self.network.bert(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state

    def features(self, tokens: Tokens) -> torch.Tensor:
        """Return the features [N, width], with gradients."""
        mask = tokens.mask[:, :, None].float()
        return (self.states(tokens) * mask).sum(1) / mask.sum(1)

    def word_scores(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits [K, vocabulary] of the words behind states [K, width]."""
        return self.network.cls(states)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features [N, width] of texts, in evaluation mode and without gradients."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        found = torch.zeros(len(texts), self.width)
        training = self.training
        self.eval()
        with torch.no_grad():
            for at in np.array_split(order, max(1, -(-len(texts) // AT_ONCE))):
                if len(at):
                    found[at] = self.features(self.tokens([texts[place] for place in at]))
        self.train(training)
        return found

    def save(self, folder: Path) -> None:
        """Write the configuration, and network and tokenizer in the form of transformers."""
        from tokenizers import Tokenizer

        from selfstudy.models.language.model import no_bars

        if self.tokenizer is None:
            raise UsageError("The model 'small-bert' has no words yet, so there is nothing to save.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, {"kind": self.kind, **self.config})
        with no_bars():
            self.network.save_pretrained(folder / NETWORK)
        plain = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        plain.no_padding()  # it keeps how it was last called, and the file would depend on that
        plain.no_truncation()
        _dressed(plain, self.length).save_pretrained(folder / NETWORK)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MachineError: the folder holds a model of another kind.
        """
        from tokenizers import Tokenizer
        from transformers import BertForMaskedLM

        from selfstudy.models.language.model import no_bars

        folder = Path(folder)
        config = read_json(folder / CONFIG)
        kind = config.pop("kind")
        if kind != cls.kind:
            raise MachineError(f"{folder} holds a model {kind!r}, not {cls.kind!r}.")
        model = cls(**config)
        with no_bars():
            model.network = BertForMaskedLM.from_pretrained(folder / NETWORK).eval()
        model.tokenizer = _dressed(Tokenizer.from_file(str(folder / NETWORK / WORDS)), model.length)
        return model


def train_tokenizer(texts: Sequence[str], vocabulary: int, length: int) -> Any:
    """Return a tokenizer of transformers with pieces of words of `texts`: byte-level BPE, in lower case.

    The same texts give the same pieces.

    Args:
        texts: any number.
        vocabulary: most tokens, special ones included; few texts give fewer.
        length: most tokens of a text, special ones included.

    Raises:
        DataError: no text has a word.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if not any(text.strip() for text in texts):
        raise DataError(f"None of the {len(texts)} texts has a word.")
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text[:LONGEST] for text in texts), trainer)
    ends = [(mark, SPECIAL.index(mark)) for mark in (FIRST, LAST)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{FIRST} $A {LAST}", special_tokens=ends)
    return _dressed(tokenizer, length)


def _dressed(tokenizer: Any, length: int) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=LAST,
        mask_token=HIDDEN,
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    )
