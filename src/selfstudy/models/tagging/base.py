"""What taggers share: tags of words in sentences, and saving without pickle."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import safetensors.numpy

from selfstudy.core.errors import MachineError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.data.tagged import Sentences, TaggedTexts
from selfstudy.models.small import CONFIG, WEIGHTS

LISTS = "words.json"


class Tagger(ABC):
    """A learner that tells the tag of every word of a sentence.

    A subclass sets `kind`, its name in `selfstudy.models.loading.NAMES`, and keeps all that it has learned in
    `arrays` and `lists`.

    Args:
        config: all keyword arguments of the subclass, plain values.

    Attributes:
        classes: names of the K tags; none before `made_for`.
        passes: times that training goes over the words.
    """

    kind: ClassVar[str]
    passes: int = 1

    def __init__(self, **config: Any) -> None:
        self.config = config
        self.classes: tuple[str, ...] = ()
        self.arrays: dict[str, np.ndarray] = {}
        self.lists: dict[str, list[str]] = {}

    @property
    def name(self) -> str:
        """The specification that makes this tagger anew."""
        fields = "&".join(f"{field}={value}" for field, value in self.config.items())
        return f"{self.kind}?{fields}" if fields else self.kind

    @property
    def trained(self) -> bool:
        """Whether it has learned anything."""
        return bool(self.arrays)

    def made_for(self, texts: TaggedTexts) -> Self:
        """Return the tagger with the tags of these texts; one that has been trained stays.

        Raises:
            UsageError: it knows other tags.
        """
        if self.classes and self.classes != texts.classes:
            raise UsageError(
                f"The tagger {self.name!r} knows the tags {', '.join(self.classes)}; those of {texts.name!r} "
                f"are {', '.join(texts.classes)}. Take a new tagger."
            )
        made = self.copy()
        made.classes = texts.classes
        return made

    def copy(self) -> Self:
        """Return a tagger of its own."""
        return copy.deepcopy(self)

    @abstractmethod
    def learn(self, texts: TaggedTexts, key: int) -> None:
        """Forget everything and learn from these texts.

        Args:
            texts: with the tags that this tagger was made for; at least one sentence.
            key: of the order in which words are gone through.
        """

    @abstractmethod
    def scored(self, sentences: Sentences) -> np.ndarray:
        """Return the place of the tag [T] of each word, of a trained tagger."""

    def label(self, sentences: Sentences) -> np.ndarray:
        """Return the place of the tag [T] of each word, sentence after sentence; all 0 before training."""
        if not self.trained:
            return np.zeros(sum(map(len, sentences)), dtype=np.int64)
        return self.scored(sentences).astype(np.int64)

    def predict(self, sentences: Sentences) -> list[list[str]]:
        """Return the names of the tags, sentence by sentence.

        Raises:
            UsageError: it does not know any tags yet.
        """
        if not self.classes:
            raise UsageError(f"The tagger {self.name!r} is untrained. Fit it, or load a trained one.")
        labels = iter(self.label(sentences).tolist())
        return [[self.classes[next(labels)] for _ in sentence] for sentence in sentences]

    def save(self, folder: Path) -> None:
        """Write configuration and words (JSON) and numbers (safetensors)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CONFIG, {"kind": self.kind, "classes": list(self.classes), **self.config})
        write_json(folder / LISTS, self.lists)
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        safetensors.numpy.save_file(arrays, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MachineError: the folder holds a model of another kind.
        """
        config = read_json(Path(folder) / CONFIG)
        kind, classes = config.pop("kind"), config.pop("classes", [])
        if kind != cls.kind:
            raise MachineError(f"{folder} holds a model {kind!r}, not {cls.kind!r}.")
        tagger = cls(**config)
        tagger.classes = tuple(classes)
        tagger.lists = read_json(Path(folder) / LISTS)
        tagger.arrays = safetensors.numpy.load_file(Path(folder) / WEIGHTS)
        return tagger
