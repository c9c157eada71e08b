"""Words as features: latent semantic analysis, for a machine without a pretrained encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.items import LONGEST, Texts
from selfstudy.models.encoders.text_base import TextEncoder


class WordEncoder(TextEncoder):
    """Words and pairs of words, weighted by how rare they are, in the main directions of a set of texts.

    Deerwester et al. 1990, "Indexing by Latent Semantic Analysis". It knows nothing but the texts that it was
    made for; a pretrained encoder, such as minilm, is better by far where it can be had.

    Args:
        width: of the features; directions that the texts do not have are 0.
        buckets: into which words are hashed.
        seed: of the randomised decomposition.

    Raises:
        UsageError: a width or number of buckets below 1.
    """

    kind: ClassVar[str] = "words"

    def __init__(self, *, width: int = 128, buckets: int = 8192, seed: int = 0) -> None:
        super().__init__(width=width, buckets=buckets, seed=seed)
        if width < 1 or buckets < 1:
            raise UsageError(f"width={width} and buckets={buckets} of model 'words' must be 1 or more.")
        self.width, self.buckets, self.seed = width, buckets, seed
        self.rarity: torch.Tensor
        self.directions: torch.Tensor
        self.register_buffer("rarity", torch.zeros(buckets))
        self.register_buffer("directions", torch.zeros(buckets, width))

    def made_for(self, items: Texts) -> Self:
        """Return the encoder with the weights and directions of these texts; one that has them stays.

        Raises:
            DataError: no text has a word.
        """
        if bool(self.rarity.any()):
            return self
        from sklearn.decomposition import TruncatedSVD

        counts = self._counts(items.texts)
        if not counts.nnz:
            raise DataError(f"None of the {len(items)} texts of {items.name!r} has a word.")
        made = type(self)(**self.config)
        seen = np.asarray((counts > 0).sum(0)).ravel()
        made.rarity = torch.from_numpy(np.log((1 + len(items)) / (1 + seen)) + 1).float()
        weighted = made._weighted(counts)
        found = min(self.width, *(size - 1 for size in weighted.shape))
        if found > 0:
            split = TruncatedSVD(found, random_state=self.seed).fit(weighted)
            made.directions[:, :found] = torch.from_numpy(split.components_.T)
        return made

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the features [N, width] of texts, of length 1 or 0."""
        features = torch.from_numpy(self._weighted(self._counts(texts)) @ self.directions.numpy()).float()
        return torch.nn.functional.normalize(features, dim=1)

    def _counts(self, texts: Sequence[str]) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        hashed = HashingVectorizer(
            n_features=self.buckets, ngram_range=(1, 2), norm=None, alternate_sign=False, dtype=np.float32
        )
        return hashed.transform([text[:LONGEST] for text in texts])

    def _weighted(self, counts: Any) -> Any:
        from sklearn.preprocessing import normalize

        damped = counts.copy()
        damped.data = 1 + np.log(damped.data)
        return normalize(damped.multiply(self.rarity.numpy()).tocsr())
