"""Tiny vision-language models over characters, for tests, claims and examples: a LLaVA of transformers."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.tiny import character_tokenizer, tiny_config

IMAGE = "<image>"


def random_tiny_vision_model(
    layers: int = 3,
    width: int = 96,
    seed: int = 0,
    *,
    vocabulary: str,
    side: int = 8,
    patch: int = 4,
    context: int = 64,
) -> LanguageModel:
    """Return an untrained model of images and characters.

    An image is resized to a square, cut into patches, and read by two layers of two thirds of `width`; each
    patch is then one token of the decoder.

    Args:
        layers: of the decoder.
        width: of its hidden states; a multiple of 24.
        seed: of the weights.
        vocabulary: one token a character; then one for the end of a text, and one for a patch.
        side: of an image, in pixels.
        patch: side of a patch.
        context: most tokens, patches included.
    """
    tokenizer = character_tokenizer(vocabulary, context=context, end=True)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    images = CLIPImageProcessorPil(
        size={"height": side, "width": side}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the first one, which "default" leaves out
    )
    text = tiny_config(layers, width, vocabulary=vocabulary + " ", context=context)
    text.pad_token_id = text.eos_token_id = tokenizer.eos_token_id
    eyes = 2 * width // 3
    config = LlavaConfig(
        text_config=text,
        vision_config=CLIPVisionConfig(
            hidden_size=eyes,
            intermediate_size=2 * eyes,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=side,
            patch_size=patch,
        ),
        image_token_index=tokenizer.get_vocab()[IMAGE],
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=(side // patch) ** 2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = LlavaForConditionalGeneration(config)
    return LanguageModel(f"tiny-vision-{layers}x{width}", module, tokenizer, processor=processor)
