"""Sampling from a vision-language model, through `generate` of transformers.

What is drawn is chosen here, by the same rule as in `TorchSampler`: a request's draws depend on its key. The
module's own program places images, positions and memory, so every architecture of transformers is right.
Slower than `TorchSampler`: each sample reads its prompt and its images again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError, MachineError
from selfstudy.core.random import uniforms
from selfstudy.models.language.choosing import choose
from selfstudy.models.language.images import Seen, joined, look_at
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, validate
from selfstudy.models.language.stopping import END, GO_ON, LOOK, STOP, Stopping


class ImageSampler:
    """Samples from a LanguageModel with a processor; requests may have images.

    Args:
        model: of the kind `AutoModelForImageTextToText`.
        meter: charged before each step, generated tokens and FLOPs; None counts nothing.
    """

    def __init__(self, model: LanguageModel, meter: Meter | None = None) -> None:
        self.model, self.meter = model, meter or Meter()
        self.stopping = Stopping(model)

    def sample(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion for each request, in their order.

        Raises:
            UsageError: a request that cannot be.
            DataError: a prompt without a token.
            MachineError: the model gives logits that are not finite.
            BudgetSpent: the meter does not cover the next step; what was drawn in this call is lost.
        """
        for request in requests:
            validate(request)
        seen = look_at(self.model, [r.prompt for r in requests], [r.images for r in requests])
        rows = []
        for request, one in zip(requests, seen, strict=True):
            if not one.tokens:
                raise DataError(
                    f"The prompt {request.prompt!r} has no tokens; a model needs one to go on from."
                )
            rows.append(_Row(request, one, min(request.max_tokens, self.model.context - len(one.tokens))))
        open_ = [row for row in rows if row.limit > 0]
        with Inference(self.model.module):
            for batch in self._batches(sorted(open_, key=lambda row: len(row.seen.tokens))):
                self._draw(batch)
        texts = self.model.decode_all([row.tokens for row in rows])
        return [self._completion(row, text) for row, text in zip(rows, texts, strict=True)]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Yield the rows, as many at a time as the engine allows and as its memory holds."""
        config = self.model.module.config.get_text_config()
        size = torch.finfo(self.model.module.dtype).bits // 8
        room = (
            self.model.engine.cache_mib * 2**20 // (2 * config.num_hidden_layers * config.hidden_size * size)
        )
        batch: list[_Row] = []
        for row in rows:
            longest = max(len(one.seen.tokens) + one.limit for one in (*batch, row))
            if batch and (len(batch) == self.model.engine.rows or (len(batch) + 1) * longest > room):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _draw(self, rows: list[_Row]) -> None:
        device = self.model.device
        width = max(len(row.seen.tokens) for row in rows)
        pads = [width - len(row.seen.tokens) for row in rows]
        fill = self.model.tokenizer.pad_token_id or 0
        tokens = [[fill] * pad + list(row.seen.tokens) for pad, row in zip(pads, rows, strict=True)]
        mask = torch.arange(width) >= torch.tensor(pads)[:, None]
        drawing = _Drawing(self, rows)
        read = sum(len(row.seen.tokens) for row in rows)
        self.meter.charge(generated_tokens=len(rows), flops=self.model.flops(read))
        self.model.module.generate(
            input_ids=torch.tensor(tokens, device=device),
            attention_mask=mask.long().to(device),
            **joined([row.seen.inputs for row in rows], width, device, left=True),
            generation_config=GenerationConfig(
                do_sample=False,
                repetition_penalty=1.0,
                max_new_tokens=max(row.limit for row in rows),
                pad_token_id=fill,
                eos_token_id=None,
            ),
            logits_processor=LogitsProcessorList([drawing.choose]),
            stopping_criteria=StoppingCriteriaList([drawing.ended]),
        )

    def _completion(self, row: _Row, text: str) -> Completion:
        if row.finish == "stop":
            text = self.stopping.cut(text, row.request.stop)
        return Completion(text, tuple(row.tokens), tuple(row.logprobs), row.finish)


@dataclass(slots=True)
class _Row:
    """A request, and what it has got."""

    request: Request
    seen: Seen
    limit: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    over: bool = False

    def __post_init__(self) -> None:
        self.finish = self.no_room

    finish: str = ""

    @property
    def no_room(self) -> str:
        """What ends it when nothing else does."""
        return "length" if self.limit == self.request.max_tokens else "context"


class _Drawing:
    """One call of `generate`: chooses the tokens, and says when rows have ended."""

    def __init__(self, sampler: ImageSampler, rows: list[_Row]) -> None:
        self.sampler, self.rows = sampler, rows
        self.codes = [sampler.stopping.table(row.request.stop) for row in rows]
        device = sampler.model.device
        self.temperature = torch.tensor([row.request.temperature for row in rows], device=device)
        top_p = [row.request.top_p for row in rows]
        self.top_p = torch.tensor(top_p, device=device) if min(top_p) < 1 else None
        keys = np.array([row.request.key & (2**64 - 1) for row in rows], dtype=np.uint64)
        places = np.arange(max(row.limit for row in rows), dtype=np.uint64)
        self.uniform = torch.from_numpy(uniforms(keys[:, None], places)).to(device)  # [B, T]
        config = sampler.model.module.config
        names = ("image_token_id", "video_token_id", "image_token_index", "video_token_index")
        marks = [getattr(config, name, None) for name in names]
        self.places_of_images = torch.tensor(
            [m for m in marks if m is not None], dtype=torch.long, device=device
        )
        self.step = 0

    def choose(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores [B, V] that leave one token to each row."""
        # A place of an image in an answer would lack its image when the answer is read in training.
        scores = scores.index_fill(1, self.places_of_images, -torch.inf)
        rows = torch.arange(len(self.rows), device=scores.device)
        tokens, logprobs = choose(scores, self.temperature, rows, self.uniform[:, self.step], self.top_p)
        self.step += 1
        for row, codes, token, logprob in zip(
            self.rows, self.codes, tokens.tolist(), logprobs.tolist(), strict=True
        ):
            if not row.over:
                self._take(row, int(codes[token]), token, logprob)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)

    def _take(self, row: _Row, code: int, token: int, logprob: float) -> None:
        if not np.isfinite(logprob):
            model = self.sampler.model
            raise MachineError(
                f"The model {model.name!r} gives logits that are not finite at token {len(row.tokens) + 1} "
                f"after the prompt {row.request.prompt[:60]!r}. Its weights are damaged, or its training "
                "diverged: look at the loss, lower the learning rate, or use dtype=float32."
            )
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if code == LOOK:
            code = STOP if self.sampler.stopping.in_tail(row.tokens, row.request.stop) else GO_ON
        row.over = code != GO_ON or len(row.tokens) >= row.limit
        row.finish = {STOP: "stop", END: "end"}.get(code, row.no_room)

    def ended(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return which rows [B] have ended; charge the next step of the others."""
        left = sum(not row.over for row in self.rows)
        if left:
            self.sampler.meter.charge(generated_tokens=left, flops=self.sampler.model.flops(len(self.rows)))
        return torch.tensor([row.over for row in self.rows], device=input_ids.device)
