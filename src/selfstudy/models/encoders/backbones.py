"""Vision backbones of transformers as encoders: from the hub or a folder, saved so that they need neither."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any, ClassVar, Self

import torch
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.masked_backbones import MaskedBackbone
from selfstudy.models.encoders.pretrained import (
    FAILURES,
    explained,
    fitted_to,
    require_trained,
    without_dropout,
)

USUAL_SIDE = 224  # pixels, where neither the processor nor the configuration says
POOLED, TOKENS = "pooled", "tokens"
MASKED = "vit_mae"  # the kind of masked autoencoders
WHAT = "vision backbone"
ADVICE = (
    "Give the id of a vision model on the Hugging Face hub (owner/name), or a folder in its layout: "
    "config.json, model.safetensors."
)


class Backbone(ImageEncoder):
    """A vision model of transformers; `backbone` makes it.

    Images are resized to the side that the network sees, smaller ones than it was made for to a smaller side
    in proportion, and grey ones are repeated in each of its channels. `network` is the transformers model:
    `network.save_pretrained(folder)` writes it for other tools.

    Args:
        channels: of the images.
        size: of the images in pixels.
        side: to which they are resized for the network.
        width: of the features.
        features: "pooled", the network's own pooling, or "tokens", the mean over places.
        source: hub id or folder that it came from.
        architecture: the transformers configuration, as JSON data.
    """

    kind: ClassVar[str] = "vision"

    def __init__(
        self,
        *,
        channels: int,
        size: int,
        side: int,
        width: int,
        features: str,
        source: str,
        architecture: dict[str, Any],
    ) -> None:
        from transformers import AutoConfig, AutoModel

        super().__init__(
            channels=channels,
            size=size,
            side=side,
            width=width,
            features=features,
            source=source,
            architecture=architecture,
        )
        with self.first_weights():
            self.network = AutoModel.from_config(AutoConfig.for_model(**architecture))
        self.side, self.width = side, width
        colours = self.network.config.num_channels
        self.mean = torch.zeros(colours, 1, 1)
        self.deviation = torch.ones(colours, 1, 1)

    @property
    def seen_size(self) -> int:
        """Pixels a side that the network sees."""
        return self.side

    @property
    def grain(self) -> int:
        """Sides that become a whole number of pixels, and of patches where their positions are resized.

        Networks of windows are made for one side: their windows do not fit smaller maps.
        """
        config, patch = self.network.config, 1
        if hasattr(config, "window_size"):
            return 0
        if _has_positions(self.network):
            patch = config.patch_size
        elif hasattr(config, "num_attention_heads"):
            return 0
        return patch * self.size // math.gcd(self.side, patch * self.size)

    @property
    def name(self) -> str:
        """The specification that loads it anew."""
        return f"vision:{self.config['source']}?size={self.side}"

    def made_for(self, images: ImageSet) -> Self:
        """Return the encoder for the channels and the size of `images`, with the statistics that it has.

        Raises:
            DataError: they are not square, or have channels that the network cannot take.
        """
        return fitted_to(self, images)

    def encode(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the features [B, width] of normalised images."""
        side = self.side * inputs.shape[-1] // self.size
        if inputs.shape[-1] != side:
            shrinks, size = side < inputs.shape[-1], (side, side)
            inputs = functional.interpolate(inputs, size, mode="bilinear", antialias=shrinks)
        return _features(self.network, inputs, self.config["features"])


def backbone(name: str, *, size: int = 0) -> Backbone | MaskedBackbone:
    """Return a vision model of transformers as an encoder, with its trained weights.

    A masked autoencoder keeps its decoder, and its features are the state of [CLS] with nothing hidden.

    Features are the network's pooled output; where the pooling has no trained weights, or there is none, the
    mean of the last layer over places. Mean and deviation are those of its image processor, or ImageNet's.
    Of a model of images and text the part for images is taken. Dropout is switched off: transformers draws it
    from a global generator, and a run could not be repeated. Code that comes with a model is never run.

    Args:
        name: `owner/name` on the Hugging Face hub, or a folder in its layout.
        size: to which images are resized for the network, in pixels; 0 is what it was trained on.

    Raises:
        UsageError: there is no such model, or it is none of images.
    """
    if size < 0 or not name:
        raise UsageError(
            f"A backbone needs a name, as in vision:owner/name, and a size of 0 or more, not {size}."
        )
    network, features = _loaded(name)
    if network.config.model_type == MASKED:
        return _masked(name, size)
    processor = _processor(name)
    side = size or _side(processor, network.config)
    colours = network.config.num_channels
    with torch.no_grad():
        width = _features(network, torch.zeros(1, colours, side, side), features).shape[1]
    encoder = Backbone(
        channels=colours,
        size=side,
        side=side,
        width=width,
        features=features,
        source=name,
        architecture=json.loads(network.config.to_json_string(use_diff=True)),
    )
    encoder.network.load_state_dict(network.state_dict())
    encoder.mean, encoder.deviation = _statistics(processor, colours)
    return encoder.eval()


def _masked(name: str, size: int) -> MaskedBackbone:
    from transformers import ViTMAEForPreTraining

    from selfstudy.models.language.model import no_bars

    kind: Any = ViTMAEForPreTraining  # its types do not know of output_loading_info
    with no_bars(), explained(name, WHAT, ADVICE):
        network, found = kind.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    require_trained(name, sorted(found["missing_keys"]))
    config = without_dropout(network.config)
    if size not in (0, config.image_size):
        raise UsageError(
            f"size={size} cannot be: the masked autoencoder {name!r} has places for {config.image_size} "
            "pixels a side alone. Leave size out: images are resized."
        )
    encoder = MaskedBackbone(
        channels=config.num_channels,
        size=config.image_size,
        features="cls",
        source=name,
        architecture=json.loads(config.to_json_string(use_diff=True)),
    )
    encoder.autoencoder.load_state_dict(network.state_dict())
    encoder.mean, encoder.deviation = _statistics(_processor(name), config.num_channels)
    return encoder.eval()


def _loaded(name: str) -> tuple[Any, str]:
    """Return the network in evaluation mode, and which of its outputs are features."""
    from transformers import AutoConfig, AutoModel

    from selfstudy.models.language.model import no_bars

    with explained(name, WHAT, ADVICE):
        config = AutoConfig.from_pretrained(name)
    config = getattr(config, "vision_config", config)
    without_dropout(config)
    options = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    with no_bars(), explained(name, WHAT, ADVICE):
        network, found = AutoModel.from_pretrained(name, **options)
    if network.main_input_name != "pixel_values":
        raise UsageError(f"{name!r} is a {network.config.model_type} model, whose inputs are no images.")
    missing = sorted(found["missing_keys"])
    require_trained(name, missing)
    return network.eval(), TOKENS if missing else POOLED


def _features(network: Any, inputs: torch.Tensor, features: str) -> torch.Tensor:
    own = network.config.__dict__.get("image_size")
    more = {}
    if own not in (None, inputs.shape[-1], list(inputs.shape[2:])) and _has_positions(network):
        more["interpolate_pos_encoding"] = True
    found = network(pixel_values=inputs, **more)
    pooled = getattr(found, "pooler_output", None)
    if features == POOLED and pooled is not None:
        return pooled.flatten(1)
    last = found.last_hidden_state
    return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)


def _has_positions(network: Any) -> bool:
    """Return whether its patches have positions that it can resize."""
    return "interpolate_pos_encoding" in inspect.signature(network.forward).parameters


def _processor(name: str) -> Any:
    """Return the image processor that lies beside the weights, or None."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(name)
    except FAILURES:
        return None


def _side(processor: Any, config: Any) -> int:
    """Return the pixels that the network was trained on."""
    crop = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    for size in (crop, getattr(processor, "size", None)):
        for name in ("height", "shortest_edge"):
            if size and size.get(name):
                return int(size[name])
    own = getattr(config, "image_size", USUAL_SIDE)
    return int(own[0] if isinstance(own, list | tuple) else own)


def _statistics(processor: Any, colours: int) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    mean, deviation = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    if processor is not None and getattr(processor, "image_mean", None):
        mean, deviation = processor.image_mean, processor.image_std
    if len(mean) != colours:  # a network of another number of channels, without a processor
        mean, deviation = [0.5] * colours, [0.5] * colours
    return torch.tensor(mean)[:, None, None], torch.tensor(deviation)[:, None, None]
