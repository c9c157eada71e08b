"""One way to a sampler, whichever backend draws."""

from __future__ import annotations

from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.models.language.image_sampling import ImageSampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Sampler, TorchSampler
from selfstudy.models.language.served import ServedModel
from selfstudy.models.language.served_sampling import ServedSampler
from selfstudy.models.language.vllm import VllmSampler

Policy = LanguageModel | ServedModel  # what completions can be drawn from


def require_continuation(policy: Policy) -> None:
    """Raise a `UsageError` when `policy` cannot go on from the middle of a text, as searches need it."""
    if isinstance(policy, ServedModel) and policy.server.chat:
        raise UsageError(
            f"A search goes on from partial solutions, and {policy!r} gives whole answers only, because of "
            "chat=true. Leave that out for a server with /completions (tokenizer=FOLDER brings the chat "
            "template), or answer by greedy or by votes."
        )


def open_sampler(policy: Policy, meter: Meter | None = None, *, remember: bool = False) -> Sampler:
    """Return what draws completions of `policy`, by its engine's settings or from its server.

    Args:
        policy: the weights must not change while the sampler is in use, except through `fine_tune`'s copies.
        meter: charged generated tokens and FLOPs; None counts nothing.
        remember: keep what prompts were read between calls, for searches; vLLM always does.
    """
    if isinstance(policy, ServedModel):
        return ServedSampler(policy, meter)
    if policy.engine.backend == "vllm":
        return VllmSampler(policy, meter)
    if policy.processor is not None:
        return ImageSampler(policy, meter)
    return TorchSampler(policy, meter, remember=remember)
