"""The small language models made of random weights."""

import pytest

from selfstudy.core.errors import DataError
from selfstudy.models.language.tiny import random_number_model


def test_number_is_one_token_with_what_stands_around_it():
    model = random_number_model("*=; \n", 99, layers=1, width=32, context=64)
    text = "7*12=84;0 84\n"

    tokens = model.encode(text)

    assert tokens == [7, 100, 12, 101, 84, 102, 0, 103, 84, 104]
    assert model.decode(tokens) == text
    assert model.end == 105  # <pad>, past numbers and symbols
    assert model.module.get_input_embeddings().num_embeddings == 106


def test_number_above_the_largest_has_no_token():
    with pytest.raises(DataError):
        random_number_model("=", 99, layers=1, width=32).encode("100")
