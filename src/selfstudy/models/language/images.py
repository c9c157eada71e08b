"""Prompts with images, as a vision-language model of transformers takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from selfstudy.data.problem_images import ProblemImage
    from selfstudy.models.language.model import LanguageModel

Inputs = Mapping[str, torch.Tensor]
"""What a module is given beside tokens, by the name of its argument."""
KINDS_OF_TOKENS = "token_type_ids"  # the end of the name of an input that has a number for each token


@dataclass(frozen=True, slots=True)
class Seen:
    """A prompt with its images."""

    tokens: tuple[int, ...]
    """Each image has as many places as the module puts its parts into."""
    inputs: Inputs


def look_at(
    model: LanguageModel, prompts: Sequence[str], images: Sequence[Sequence[ProblemImage]]
) -> list[Seen]:
    """Return what the model makes of prompts and their images; equal ones are read once.

    Args:
        model: has a processor where there are images.
        prompts: texts from `LanguageModel.prompt`, which mark where the images are.
        images: of each prompt.
    """
    if not any(images):
        return [Seen(tuple(tokens), {}) for tokens in model.encode_all(prompts)]
    asked = [(text, tuple(some)) for text, some in zip(prompts, images, strict=True)]
    seen = {one: _seen(model, *one) for one in dict.fromkeys(asked)}
    return [seen[one] for one in asked]


def _seen(model: LanguageModel, text: str, images: tuple[ProblemImage, ...]) -> Seen:
    if not images:
        return Seen(tuple(model.encode(text)), {})
    begins, ends = model.tokenizer.bos_token, model.tokenizer.eos_token_id
    found = model.processor(
        text=[text],
        images=[[image.opened() for image in images]],
        add_special_tokens=not (begins and text.startswith(begins)),
        return_tensors="pt",
    )
    tokens = found["input_ids"][0].tolist()
    if ends is not None and tokens[-1] == ends and not text.endswith(model.tokenizer.eos_token):
        tokens = tokens[:-1]
    others = {name: found[name] for name in found if name not in ("input_ids", "attention_mask")}
    return Seen(tuple(tokens), others)


def joined(
    rows: Sequence[Inputs], width: int, device: torch.device | str, *, left: bool = False
) -> dict[str, torch.Tensor]:
    """Return the inputs of a batch of rows of tokens, which are padded to `width`.

    Args:
        rows: of each row of tokens; none for one without images.
        width: of the padded rows.
        device: where the module is.
        left: the rows are padded on the left.
    """
    out = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        if name.endswith(KINDS_OF_TOKENS):
            # Text is 0, and so are answers and padding.
            kinds = [row.get(name, torch.zeros(1, 0, dtype=values[0].dtype)) for row in rows]
            rests = [width - kind.shape[1] for kind in kinds]
            values = [F.pad(k, (r, 0) if left else (0, r)) for k, r in zip(kinds, rests, strict=True)]
        out[name] = torch.cat(values).to(device)
    return out
