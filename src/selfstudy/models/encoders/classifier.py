"""A classifier of images: an encoder with linear heads, and the ways of reading them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import safetensors.torch
import torch
from torch import nn

from selfstudy.core.checkpoint import find_class, name_class
from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.transformations import (
    SETS,
    TransformSet,
    aggregated_scores,
    identity_scores,
    transformations,
)
from selfstudy.models.encoders.base import LARGEST_BATCH, ImageEncoder

Mode = Literal["single", "aggregate", "distilled"]
CLASS, JOINT, TRANSFORMATION = "class", "joint", "transformation"  # heads of C, C * M and M outputs
CONFIG, HEADS, ENCODER = "classifier.json", "heads.safetensors", "encoder"


class ImageClassifier(nn.Module):
    """An image encoder with one or more named linear heads on its features.

    A class is told in one of three modes:

        single      the joint head on the image, at the identity; without one, the class head
        aggregate   the mean over all transformed copies, of the joint head, else of the class head
        distilled   the class head beside a joint head, which it was distilled from

    Args:
        encoder: taken over as it is.
        classes: names of the C classes.
        heads: outputs of each head, by name.
        transformed: the M transformations of the joint head and of the mode "aggregate".
        mode: that `classify` and `predict` take unless told.
        key: of the stream of the heads' first weights.

    Raises:
        UsageError: a mode that these heads do not have.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        classes: tuple[str, ...],
        heads: Mapping[str, int],
        *,
        transformed: TransformSet = SETS["identity"],
        mode: Mode = "single",
        key: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.classes = classes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key >> 1)
            self.heads = nn.ModuleDict(
                {name: nn.Linear(encoder.width, outputs) for name, outputs in heads.items()}
            )
        self.transformed = transformed
        self.mode: Mode = self._mode(mode)

    @property
    def name(self) -> str:
        """The encoder's name, and what is on it."""
        return f"classifier of {len(self.classes)} classes on {self.encoder.name}"

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The ways in which this classifier tells classes."""
        both = {CLASS, JOINT} <= set(self.heads)
        return ("single", "aggregate", "distilled") if both else ("single", "aggregate")

    def copy(self) -> Self:
        """Return a classifier with weights of its own."""
        return copy.deepcopy(self)

    def made_for(self, images: ImageSet) -> Self:
        """Return the classifier, which was made for such images when it was trained.

        Raises:
            UsageError: it was made for other images.
        """
        self.encoder.made_for(images)
        return self

    def forward(self, images: torch.Tensor, head: str = CLASS) -> torch.Tensor:
        """Return the outputs of one head on images [B, C, H, W], 0 to 1."""
        return self.heads[head](self.encoder(images))

    def reading(self, mode: Mode, transformed: TransformSet | None = None) -> Self:
        """Return this classifier, with the same weights, telling classes in another mode.

        Args:
            mode: its own from now on.
            transformed: copies that a class head is averaged over, in place of its own.

        Raises:
            UsageError: a mode that these heads do not have, or other copies than a joint head knows.
        """
        read = copy.copy(self)
        if transformed is not None:
            if JOINT in self.heads and transformed.names != self.transformed.names:
                raise UsageError(
                    f"The joint head knows the transformations {self.transformed.name!r}; it cannot be read "
                    f"on {transformed.name!r}."
                )
            read.transformed = transformed
        read.mode = self._mode(mode)
        return read

    def scores(self, images: torch.Tensor, mode: Mode | None = None) -> torch.Tensor:
        """Return a score of each class, in evaluation mode: [N, C]; their softmax is the probability.

        Args:
            images: [N, channels, H, W], 0 to 1.
            mode: how; None is the classifier's own.
        """
        mode = self._mode(mode or self.mode)
        copies = self.transformed if mode == "aggregate" else SETS["identity"]
        head = CLASS if JOINT not in self.heads or mode == "distilled" else JOINT
        parts = images.split(max(1, LARGEST_BATCH // len(copies)))
        outputs = torch.cat([self.outputs(copies.copies(part), head) for part in parts])
        if head == CLASS:
            return outputs.view(len(images), len(copies), -1).mean(1)
        read = aggregated_scores if mode == "aggregate" else identity_scores
        return read(outputs, len(self.transformed))

    def outputs(self, images: torch.Tensor, *heads: str) -> torch.Tensor:
        """Return the outputs of the first of `heads` that there is, in evaluation mode, float32."""
        head = next(self.heads[name] for name in heads if name in self.heads)
        with torch.inference_mode():
            return head(self.encoder.embed_pixels(images)).float()

    def classify(self, images: torch.Tensor, mode: Mode | None = None) -> torch.Tensor:
        """Return the number of the class [N] of images [N, C, H, W], 0 to 1."""
        return self.scores(images, mode).argmax(1)

    def predict(self, inputs: Any, mode: Mode | None = None) -> np.ndarray:
        """Return the names of the classes of images [N], in any form that `embed` takes."""
        told = self.classify(self.encoder.prepared(inputs), mode)
        return np.array(self.classes)[told.numpy()]

    def probabilities(self, inputs: Any, mode: Mode | None = None) -> np.ndarray:
        """Return the probability of each class: [N, classes], float32."""
        return self.scores(self.encoder.prepared(inputs), mode).softmax(1).numpy()

    def embed(self, inputs: Any) -> np.ndarray:
        """Return the encoder's features of images as numbers: [N, width], float32."""
        return self.encoder.embed(inputs)

    def embed_pixels(self, images: torch.Tensor) -> torch.Tensor:
        """Return the encoder's features of images [N, C, H, W], 0 to 1: [N, width]."""
        return self.encoder.embed_pixels(images)

    def _mode(self, mode: Mode) -> Mode:
        if mode not in self.modes:
            raise UsageError(
                f"The mode {mode!r} is none of this classifier, whose heads are {', '.join(self.heads)}: it "
                f"has {', '.join(self.modes)}."
            )
        return mode

    def save(self, folder: Path) -> None:
        """Write the encoder with its preprocessing, the heads (safetensors) and the classes (JSON).

        Of the transformations only the name is written: the user's own must be in `SETS` to load it again.
        """
        folder = Path(folder)
        self.encoder.save(folder / ENCODER)
        state = {name: value.detach().cpu().contiguous() for name, value in self.heads.state_dict().items()}
        safetensors.torch.save_file(state, folder / HEADS)
        write_json(
            folder / CONFIG,
            {
                "encoder": name_class(type(self.encoder)),
                "classes": list(self.classes),
                "heads": {name: head.out_features for name, head in self.heads.items()},
                "transformations": self.transformed.name,
                "mode": self.mode,
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UsageError: it was trained on transformations that are not in `SETS`.
        """
        folder = Path(folder)
        said = read_json(folder / CONFIG)
        classifier = cls(
            find_class(said["encoder"], folder / CONFIG).load(folder / ENCODER),
            tuple(said["classes"]),
            said["heads"],
            transformed=transformations(said["transformations"]),
            mode=said["mode"],
        )
        classifier.heads.load_state_dict(safetensors.torch.load_file(folder / HEADS))
        return classifier.eval()
