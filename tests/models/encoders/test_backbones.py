"""Vision backbones of transformers: loaded from folders in the hub's layout, saved to need none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.models.encoders.backbones import Backbone
from selfstudy.models.language.model import no_bars

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    )


def vit(pooling: bool = True) -> Any:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(image_size=32, patch_size=8, **SIZES), add_pooling_layer=pooling)


def convnext() -> Any:
    from transformers import ConvNextConfig, ConvNextModel

    return ConvNextModel(ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2))


def swin() -> Any:
    from transformers import SwinConfig, SwinModel

    return SwinModel(
        SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
    )


def clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={"vocab_size": 50, **SIZES}, vision_config={"image_size": 32, "patch_size": 8, **SIZES}
    )
    return CLIPModel(config)


NETWORKS: dict[str, Callable[[], Any]] = {
    "resnet": resnet,
    "vit": vit,
    "convnext": convnext,
    "swin": swin,
    "clip": clip,
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)  # transformers draws first weights from the global generator
    # The environment variable is read when the library is imported, which may have been long ago.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def hub_folder(folder: Path, network: Any, mean: list[float] | None = None, side: int = 32) -> str:
    """Write a network, with other statistics of batch normalisation than the first ones."""
    torch.manual_seed(0)
    for name, value in network.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 1.5)
        if "running_mean" in name:
            value.uniform_(-0.2, 0.2)
    with no_bars():
        network.save_pretrained(folder)
    if mean:
        from transformers import ViTImageProcessor

        size = {"height": side, "width": side}
        ViTImageProcessor(image_mean=mean, image_std=[0.2, 0.3, 0.4], size=size).save_pretrained(folder)
    return f"vision:{folder}"


def drawn(channels: int = 3, size: int = 32, count: int = 5) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return ImageSet("drawn", pixels, np.zeros(count, np.int64), ())


@pytest.mark.parametrize("kind", NETWORKS)
def test_features_are_transformers_own(kind: str, tmp_path: Path) -> None:
    """Oracle: the network that was saved, on pixels less the processor's mean over its deviation."""
    network = NETWORKS[kind]()
    spec = hub_folder(tmp_path / "hub", network, mean=[0.1, 0.2, 0.3])
    encoder = selfstudy.model(spec)
    assert (encoder.size, encoder.channels, encoder.width) == (32, 3, 16)
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]))
    inputs = (drawn().pixels(slice(None)) - mean) / deviation
    of_images = network.vision_model if kind == "clip" else network
    with torch.no_grad():
        expected = of_images.eval()(pixel_values=inputs).pooler_output.flatten(1)
    assert expected.std(0).max() > 1e-3, "features tell the images apart"
    assert np.allclose(encoder.embed(drawn()), expected.numpy(), atol=1e-5)


def test_an_untrained_pooling_is_not_used(tmp_path: Path) -> None:
    """Oracle: the mean of the tokens, where the weights of the pooling layer are not in the file."""
    network = vit(pooling=False)
    encoder = selfstudy.model(hub_folder(tmp_path / "hub", network, mean=[0.5, 0.5, 0.5]))
    inputs = (drawn().pixels(slice(None)) - encoder.mean) / encoder.deviation
    with torch.no_grad():
        expected = network.eval()(pixel_values=inputs).last_hidden_state.mean(1)
    assert encoder.config["features"] == "tokens"
    assert np.allclose(encoder.embed(drawn()), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_is_saved_and_loaded_without_its_source(kind: str, tmp_path: Path) -> None:
    """Oracle: weights and features, bit for bit, after the source is deleted; made for images before."""
    encoder = selfstudy.model(hub_folder(tmp_path / "hub", NETWORKS[kind](), mean=[0.1, 0.2, 0.3]))
    made = encoder.made_for(drawn(channels=1, size=20))
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.01)
    made.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "hub")
    for again in (Backbone.load(tmp_path / "saved"), selfstudy.model(str(tmp_path / "saved"))):
        one, other = made.state_dict(), again.state_dict()
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
        assert np.array_equal(made.embed(drawn(1, 20)), again.embed(drawn(1, 20)))
        assert again.name == made.name and (again.size, again.channels) == (20, 1)


def test_images_are_resized_for_the_network(tmp_path: Path) -> None:
    """Oracle: torch's smoothed resizing before the network; grey images repeated in three channels."""
    spec = hub_folder(tmp_path / "hub", resnet(), mean=[0.1, 0.2, 0.3], side=24)
    for size, channels in ((40, 1), (40, 3), (10, 3)):
        given = drawn(channels, size)
        encoder = selfstudy.model(spec).made_for(given)
        pixels = given.pixels(slice(None)).expand(-1, 3, -1, -1)
        resized = functional.interpolate(pixels, (24, 24), mode="bilinear", antialias=True)
        by_hand = selfstudy.model(spec).embed_pixels(resized).numpy()
        assert np.allclose(encoder.embed(given), by_hand, atol=1e-5)


@pytest.mark.parametrize(("spec", "side"), [("", 48), ("?size=16", 16)])
def test_the_size_that_the_network_sees(spec: str, side: int, tmp_path: Path) -> None:
    """Oracle: the processor's, unless told; patches' places are interpolated for another size."""
    folder = hub_folder(tmp_path / "hub", vit(), mean=[0.5, 0.5, 0.5], side=48)
    encoder = selfstudy.model(folder + spec)
    assert encoder.side == encoder.size == side and encoder.name == f"{folder}?size={side}"
    assert encoder.embed(drawn(size=side)).shape == (5, 16)


def test_without_a_processor_the_statistics_are_imagenets(tmp_path: Path) -> None:
    """Oracle: the published figures; the configuration's size."""
    encoder = selfstudy.model(hub_folder(tmp_path / "hub", vit()))
    assert encoder.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert encoder.deviation.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225]) and encoder.side == 32


def test_a_training_pass_draws_nothing(tmp_path: Path) -> None:
    """Oracle: two passes of a network with stochastic depth and dropout are equal in training mode."""
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[2], num_heads=[2], window_size=4)
    config.drop_path_rate = config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.5
    encoder = selfstudy.model(hub_folder(tmp_path / "hub", SwinModel(config))).train()
    pixels = drawn().pixels(slice(None))
    assert torch.equal(encoder(pixels), encoder(pixels))


def test_images_that_it_cannot_take_are_refused(tmp_path: Path) -> None:
    """Oracle: the shape in the message."""
    encoder = selfstudy.model(hub_folder(tmp_path / "hub", resnet()))
    flat = ImageSet("flat", np.zeros((2, 3, 8, 9), np.uint8), np.zeros(2, np.int64), ())
    for given, said in ((flat, "8 x 9 pixels and 3"), (drawn(channels=2, size=8), "8 x 8 pixels and 2")):
        with pytest.raises(DataError, match=said):
            encoder.made_for(given)
    other = encoder.made_for(drawn(size=10))
    assert other.made_for(drawn(size=12)).size == 12, "made for others again: the weights do not depend on it"


def test_what_is_no_vision_backbone_is_refused(tmp_path: Path) -> None:
    """Oracle: the reason; nothing goes to the network."""
    from transformers import BertConfig, BertModel

    with no_bars():
        BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path / "bert")
    hub_folder(tmp_path / "cut", resnet())
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    hub_folder(tmp_path / "part", resnet())
    smaller = json.loads((tmp_path / "part" / "config.json").read_text())
    smaller["depths"] = [1, 2]
    (tmp_path / "part" / "config.json").write_text(json.dumps(smaller))
    refused = {
        f"vision:{tmp_path / 'bert'}": "bert model, whose inputs are no images",
        f"vision:{tmp_path / 'cut'}": "No vision backbone could be loaded",
        f"vision:{tmp_path / 'part'}": "lacks .* of the weights of its architecture",
        "vision:./nowhere": "No vision backbone could be loaded from './nowhere'",
        "vision:owner/name": "No vision backbone could be loaded from 'owner/name'",
        "vision:": "needs a name",
        f"vision:{tmp_path / 'part'}?size=-1": "size of 0 or more, not -1",
    }
    for spec, said in refused.items():
        with pytest.raises(UsageError, match=said):
            selfstudy.model(spec)


def test_code_of_the_model_is_not_run(tmp_path: Path) -> None:
    """Oracle: a file that the code would write."""
    hub_folder(tmp_path / "hub", resnet())
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    (tmp_path / "hub" / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Mine: pass\n")
    with pytest.raises(UsageError, match="No vision backbone"):
        selfstudy.model(f"vision:{tmp_path / 'hub'}")
    assert not (tmp_path / "run").exists()


def test_a_fit_takes_it(tmp_path: Path) -> None:
    """Oracle: the run's own model, loaded without its source, and resumed by another fit."""
    spec = hub_folder(tmp_path / "hub", convnext(), mean=[0.5, 0.5, 0.5], side=16)
    fields: dict[str, Any] = {"projector": (8,), "pretraining": {"epochs": 0.2, "batch": 32}}
    fitted = selfstudy.fit("barlow-twins", task="digits?test=20", model=spec, out=tmp_path / "run", **fields)
    shutil.rmtree(tmp_path / "hub")
    again = selfstudy.load(tmp_path / "run")
    images = np.zeros((2, 8, 8), np.uint8)
    assert np.array_equal(fitted.model.embed(images), again.embed(images))


@pytest.mark.parametrize("kind", ["resnet", "convnext", "vit", "clip"])
def test_smaller_images_are_seen_smaller(kind: str, tmp_path: Path) -> None:
    """Oracle: transformers' own on 16 x 16 pixels, positions resized where there are any; a grain of a patch,
    in pixels of the images that are resized."""
    encoder = selfstudy.model(hub_folder(tmp_path / "hub", NETWORKS[kind]()))
    assert encoder.grain == {"resnet": 1, "convnext": 1, "vit": 8, "clip": 8}[kind]
    pixels = drawn(size=16).pixels(slice(None))
    more = {} if encoder.grain == 1 else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        found = encoder.network(pixel_values=(pixels - encoder.mean) / encoder.deviation, **more)
        assert torch.allclose(encoder(pixels), found.pooler_output.flatten(1), atol=1e-5)
    assert encoder.made_for(drawn(size=64)).grain == 2 * encoder.grain
    assert encoder.made_for(drawn(size=20)).grain == 5


def test_windows_fit_one_side(tmp_path: Path) -> None:
    """Oracle: the grain that says so."""
    assert selfstudy.model(hub_folder(tmp_path / "hub", swin())).grain == 0
