"""A model over bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.models.language.bytes import byte_lm, byte_tokenizer
from selfstudy.models.language.model import LanguageModel

TOKENIZER = byte_tokenizer()


@given(text=st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_every_text_is_its_bytes_and_comes_back(text: str) -> None:
    """Oracle: UTF-8."""
    ids = TOKENIZER(text)["input_ids"]
    assert len(ids) == len(text.encode()) and TOKENIZER.decode(ids) == text


def test_it_saves_and_loads_like_any_other(tmp_path: Path) -> None:
    """Oracle: the same scores; the same seed gives the same weights, another one others."""
    model = selfstudy.model("byte-lm?layers=1&width=16&context=32")
    ids = torch.tensor([model.encode("One, two.")])
    model.save(tmp_path)
    loaded = LanguageModel.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(model.module(ids).logits, loaded.module(ids).logits)
    assert loaded.context == 32 and loaded.decode(model.encode("é")) == "é"
    same, other = (byte_lm(layers=1, width=16, context=32, seed=seed) for seed in (0, 1))
    for changed, found in ((False, same), (True, other)):
        pairs = zip(model.module.parameters(), found.module.parameters(), strict=True)
        assert changed == any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("fields", [{"layers": 0}, {"width": 12}, {"context": 0}])
def test_sizes_that_cannot_be(fields: dict[str, int]) -> None:
    """Oracle: the field is named."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        byte_lm(**fields)
