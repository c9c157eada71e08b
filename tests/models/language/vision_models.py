"""Random vision-language models, small: a LLaVA, and a Qwen2.5-VL with its positions in three directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from selfstudy.data.problem_images import ProblemImage, image_of
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import character_tokenizer
from selfstudy.models.language.tiny_vision import random_tiny_vision_model

CHARACTERS = "0123456789abcrsmx+-=:\n"
MARKS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


class _WithoutVideos(Qwen2_5_VLProcessor):
    """The processor of videos needs torchvision, which is not here; images do not."""

    def check_argument_for_proper_class(self, *_: Any) -> None: ...


def llava(layers: int = 1) -> LanguageModel:
    """A LLaVA with weights large enough that images matter."""
    model = random_tiny_vision_model(layers, 48, vocabulary=CHARACTERS)
    return _louder(model)


def qwen() -> LanguageModel:
    """A Qwen2.5-VL of two layers; its prompts hold the marks of images themselves, like a chat template's."""
    tokenizer = character_tokenizer(CHARACTERS, context=128, end=True)
    tokenizer.add_tokens(MARKS, special_tokens=True)
    tokenizer.chat_template = None
    start, end, image, video = tokenizer.convert_tokens_to_ids(MARKS)
    images = Qwen2VLImageProcessorPil(
        patch_size=4, merge_size=2, temporal_patch_size=2, min_pixels=64, max_pixels=1024
    )
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 32,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Qwen2_5_VLForConditionalGeneration(config)
    processor = _WithoutVideos(image_processor=images, tokenizer=tokenizer, video_processor=None)
    return _louder(LanguageModel("tiny-qwen-vl", module, tokenizer, processor=processor))


def noise(height: int, width: int, seed: int) -> ProblemImage:
    """An image of random pixels."""
    return image_of(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def marked(model: LanguageModel, images: int, text: str) -> str:
    """A prompt with the places of images before its text."""
    return (
        "".join(MARKS[i] for i in (0, 2, 1)) * images + text
        if "qwen" in model.name
        else model.prompt(text, images=images)
    )


def _louder(model: LanguageModel) -> LanguageModel:
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.mul_(3.0 if weight.dim() > 1 else 1.0)
    return model
