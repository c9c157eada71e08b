"""One way to a sampler, whichever backend draws."""

from __future__ import annotations

from selfstudy.core.budget import Meter
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Sampler, TorchSampler


def open_sampler(policy: LanguageModel, meter: Meter | None = None, *, remember: bool = False) -> Sampler:
    """Return what draws completions of `policy`, by its engine's settings.

    Args:
        policy: the weights must not change while the sampler is in use, except through `fine_tune`'s copies.
        meter: charged generated tokens and FLOPs; None counts nothing.
        remember: keep what prompts were read between calls, for searches.
    """
    return TorchSampler(policy, meter, remember=remember)
