"""A causal language model with its tokenizer: the object that methods pass around."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.models.language.engine import Engine

NAME_FILE = "language_model.json"
_PLAIN = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
_UNLIMITED = 10**9  # tokenizers state an absurd number where they know no limit


class LanguageModel:
    """A transformers causal LM and its tokenizer.

    Attributes:
        name: how people call it, for reports.
        module: the model, in evaluation mode.
        tokenizer: a fast tokenizer; shared between copies, never changed.
        context: positions the model has, in tokens.
        engine: how its completions are drawn.
        processor: of a vision-language model, what turns images into its inputs; else None.
    """

    def __init__(
        self,
        name: str,
        module: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        engine: Engine | None = None,
        processor: Any = None,
    ) -> None:
        self.name = name
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.engine = engine or Engine()
        self.processor = processor
        self.context = context_of(module.config, tokenizer)

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r}, {self.parameters:,} parameters, context {self.context})"

    @property
    def chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def prompt(self, text: str, *, images: int = 0) -> str:
        """Wrap `text` as a user's message where there is a chat template; else return it unchanged.

        Args:
            text: of the question.
            images: how many the question shows; their places stand before the text.

        Raises:
            UsageError: there are images, and the model reads text alone.
        """
        if images and self.processor is None:
            raise UsageError(
                f"The model {self.name!r} reads text alone, and the problems have images. Take a "
                "vision-language model, such as --model Qwen/Qwen2.5-VL-3B-Instruct."
            )
        if images and not self.chat:
            return images * str(self.processor.image_token) + text
        return in_template(self.processor if images else self.tokenizer, text, images) if self.chat else text

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text that begins a sequence: BOS where the tokenizer adds it, no EOS."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str], *, begins: bool = True) -> list[list[int]]:
        """Return the tokens of many texts at once.

        Args:
            texts: any number.
            begins: the texts begin sequences; False for what continues one, which gets no BOS.

        Raises:
            DataError: the tokenizer has no token for a part of a text.
        """
        return encode_all(self.tokenizer, texts, begins=begins)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of `tokens` without special tokens."""
        return decode(self.tokenizer, tokens)

    def decode_all(self, rows: list[list[int]]) -> list[str]:
        """Return the text of each row of tokens without special tokens."""
        return [str(text) for text in self.tokenizer.batch_decode(rows, **_PLAIN)] if rows else []

    @property
    def end(self) -> int | None:
        """The token that ends a completion in training; None where the tokenizer has none."""
        value = self.tokenizer.eos_token_id
        return None if value is None else int(value)

    @cached_property
    def parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(weight.numel() for weight in self.module.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.device

    def flops(self, tokens: float) -> float:
        """Return the floating-point operations of a forward pass over `tokens` (2 a weight and token)."""
        return 2.0 * self.parameters * tokens

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer in the hub's layout, so that any tool can load them."""
        folder = Path(folder)
        with no_bars():
            self.module.save_pretrained(folder)
        (self.processor or self.tokenizer).save_pretrained(folder)
        dtype = str(self.module.dtype).removeprefix("torch.")
        write_json(folder / NAME_FILE, {"name": self.name, "dtype": dtype, "engine": asdict(self.engine)})

    @classmethod
    def load(cls, folder: Path, *, dtype: torch.dtype | None = None) -> LanguageModel:
        """Read what `save` wrote, or any folder in the hub's layout, to the GPU where there is one.

        Never goes to the network.

        Args:
            folder: where it is.
            dtype: of the weights; None takes that of the saved model, float32 for others.

        Raises:
            UsageError: the folder holds no causal or vision-language model, or none with a tokenizer.
        """
        folder = Path(folder)
        about = read_json(folder / NAME_FILE) if (folder / NAME_FILE).exists() else {}
        dtype = dtype or getattr(torch, about.get("dtype", "float32"))
        module, tokenizer, processor = parts(str(folder), dtype=dtype, local_files_only=True)
        for passing in ("is_local", "local_files_only"):  # how it was loaded is not to be saved again
            tokenizer.init_kwargs.pop(passing, None)
        engine = Engine(**about.get("engine", {}))
        return cls(about.get("name", folder.name), module.to(home()), tokenizer, engine, processor)

    def copy(self) -> LanguageModel:
        """Return a model with weights of its own; the tokenizer is shared."""
        return self.with_module(copy.deepcopy(self.module))

    def with_module(self, module: Any) -> LanguageModel:
        """Return this model with another module in the place of its own."""
        return LanguageModel(self.name, module, self.tokenizer, self.engine, self.processor)


def home() -> torch.device:
    """Return where language models live: the GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Keep transformers from drawing bars for files that are read or written in a moment."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def parts(source: str, *, dtype: torch.dtype, **options: Any) -> tuple[Any, Any, Any]:
    """Return module, tokenizer and processor of a folder or hub id; the processor is None for text alone.

    Raises:
        UsageError: one of them cannot be loaded.
    """
    if not sees(source, **options):
        module = pretrained(AutoModelForCausalLM, source, dtype=dtype, **options)
        return module, pretrained(AutoTokenizer, source, **options), None
    module = pretrained(AutoModelForImageTextToText, source, dtype=dtype, **options)
    tokenizer = pretrained(AutoTokenizer, source, **options)
    processor = pretrained(AutoProcessor, source, **options)
    processor.chat_template = processor.chat_template or getattr(tokenizer, "chat_template", None)
    return module, tokenizer, processor


def sees(source: str, **options: Any) -> bool:
    """Tell whether a folder or hub id is a model of images and text, and not one of text too."""
    try:
        kind = AutoConfig.from_pretrained(source, **options).model_type
    except (OSError, ValueError, KeyError):
        return False  # the loading of the model says what is wrong
    return (
        kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )


def pretrained(kind: Any, source: str, **options: Any) -> Any:
    """Call `kind.from_pretrained`, in float32 for models, and explain a failure to the user."""
    part = {AutoTokenizer: "tokenizer", AutoProcessor: "processor"}.get(kind, "model")
    if part == "model":
        options.setdefault("dtype", torch.float32)
    try:
        with no_bars():
            loaded = kind.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"No {part} could be loaded from {source!r}: {reason}. Give a folder in the layout of "
            "save_pretrained (config.json, weights, tokenizer.json), the id of such a model on the Hugging "
            "Face hub, a .gguf file, 'tiny-lm' or 'gemma-3-270m'."
        ) from error
    if part == "tokenizer" and not getattr(loaded, "is_fast", False):
        raise UsageError(f"The tokenizer of {source!r} is not a fast one (tokenizer.json). Convert it first.")
    return loaded


def context_of(config: Any, tokenizer: Any) -> int:
    """Return the number of positions of a model; 2048 where neither it nor its tokenizer says."""
    text = config.get_text_config()
    limit = getattr(text, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(limit) if limit and limit < _UNLIMITED else 2048


def in_template(tokenizer: Any, text: str, images: int = 0) -> str:
    """Return `text` as a user's message in the chat template, up to where the answer begins.

    Args:
        tokenizer: or a processor, where there are images.
        text: of the message.
        images: how many stand before it.
    """
    shown = [*[{"type": "image"}] * images, {"type": "text", "text": text}]
    message = [{"role": "user", "content": shown if images else text}]
    return str(tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))


def encode_all(tokenizer: Any, texts: Sequence[str], *, begins: bool) -> list[list[int]]:
    """See `LanguageModel.encode_all`."""
    if not texts:
        return []
    bos, eos = tokenizer.bos_token, tokenizer.eos_token_id
    # A chat template writes the BOS into the text itself.
    plain = [not begins or bool(bos and text.startswith(bos)) for text in texts]
    out: list[list[int]] = [[] for _ in texts]
    for bare in (True, False):
        which = [i for i, is_plain in enumerate(plain) if is_plain == bare]
        if not which:
            continue
        try:
            rows = tokenizer([texts[i] for i in which], add_special_tokens=not bare)["input_ids"]
        except Exception as error:  # the tokenizers library raises bare Exception
            raise DataError(
                f"The model's tokenizer cannot encode a text such as {texts[which[0]][:60]!r} ({error}). "
                "Every character must be in its vocabulary."
            ) from error
        for i, row in zip(which, rows, strict=True):
            ended = not bare and row and eos is not None and row[-1] == eos
            out[i] = list(row[:-1]) if ended and not texts[i].endswith(tokenizer.eos_token) else list(row)
    return out


def decode(tokenizer: Any, tokens: Iterable[int]) -> str:
    """See `LanguageModel.decode`."""
    return str(tokenizer.decode(list(tokens), **_PLAIN))
