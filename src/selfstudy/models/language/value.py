"""A value model: how good a partial solution is, one number for a prompt and the steps so far.

A language model and a linear head on the last real token's hidden state. The ReST-MCTS* authors (Zhang et
al., 2024) map the vocabulary logits instead; the hidden state says the same for less. A head of two rows also
reads how likely the model itself finds the steps so far: one unlikely token says that a step is wrong.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn
from transformers import PreTrainedModel

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.core.files import read_json, write_json
from selfstudy.models.language.decoder import Decoder, can_decode
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.prefixes import PrefixCache, Reading
from selfstudy.models.language.scoring import batches_by_length, pad_right

Prefix = tuple[str, Sequence[str]]
"""A prompt and the steps after it."""
UNLIKELY = 10.0
"""A token of probability exp(-10) or less counts as impossible."""


class ValueModel:
    """A language model that reads, and a linear head.

    Args:
        reader: its weights are the value model's own.
        head: maps hidden states [H] to the value, or to the value of a likely text and what an impossible
            token in it adds (two rows).
        low, high: the range that `values` clamps to.

    Attributes:
        net: the trainable part, an `nn.Module`; see `ValueNet`.
        context: positions the reader has, in tokens.
    """

    def __init__(
        self,
        reader: LanguageModel,
        head: nn.Linear,
        *,
        name: str = "value",
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        self.name, self.low, self.high = name, low, high
        self.reader, self.context = reader, reader.context
        self.net = ValueNet(reader.module, head).eval()
        self._memory: _Memory | None = None

    def remembering(self) -> ValueModel:
        """Return this model with a memory for the prefixes it reads, so that their extensions are cheap.

        It shares the weights; where they change, the memory begins anew.
        """
        model = copy.copy(self)
        if can_decode(self.net.module):
            model._memory = _Memory(self.net, self.reader.engine.cache_mib * 2**20)
        return model

    @classmethod
    def from_policy(cls, policy: LanguageModel, *, likelihood: bool = False) -> ValueModel:
        """Return a model with the policy's own weights and a head that says 0.5 to everything.

        Args:
            policy: copied.
            likelihood: let the head also read how likely the steps are; costs the vocabulary's logits for
                every token of a solution.
        """
        head = nn.Linear(policy.module.config.get_text_config().hidden_size, 2 if likelihood else 1)
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor([0.5, 0.0])[: head.out_features])
        return cls(policy.copy(), head.to(policy.device), name=f"value of {policy.name}")

    @cached_property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.net.parameters())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.head.weight.device

    def flops(self, tokens: float) -> float:
        """Return the floating-point operations of a forward pass over `tokens`."""
        return 2.0 * self.parameters * tokens

    def tokens(self, prefixes: Sequence[Prefix]) -> list[tuple[list[int], int, list[int]]]:
        """Return (tokens, start, ends) of each prefix.

        Its steps begin at token `start`, and `ends[i]` is the place of the last token of step i. A prompt's
        tokens, then those of each step and its newline: the same text always gets the same tokens, so a
        prefix's tokens begin those of every longer one.

        Raises:
            DataError: a prompt without tokens, or a text with characters that the reader does not know.
        """
        of_prompt, of_step = (self._memory.prompts, self._memory.steps) if self._memory else ({}, {})
        prompts = list(dict.fromkeys(prompt for prompt, _ in prefixes if prompt not in of_prompt))
        steps = list(dict.fromkeys(step for _, steps in prefixes for step in steps if step not in of_step))
        lines = [f"{step}\n" for step in steps]
        try:
            of_prompt.update(zip(prompts, self.reader.encode_all(prompts), strict=True))
            of_step.update(zip(steps, self.reader.encode_all(lines, begins=False), strict=True))
        except DataError as error:
            raise DataError(
                f"The value model {self.name!r} cannot read what it is to judge. {error} Take a value model "
                "that was fitted for this policy."
            ) from error
        out = []
        for prompt, steps_here in prefixes:
            row, ends = list(of_prompt[prompt]), []
            if not row:
                raise DataError(f"The prompt {prompt!r} has no tokens, so there is nothing to value.")
            for step in steps_here:
                row += of_step[step]
                ends.append(len(row) - 1)
            out.append((row, len(of_prompt[prompt]), ends))
        return out

    def values(self, prefixes: Sequence[Prefix], meter: Meter | None = None) -> np.ndarray:
        """Return the value after the last step of each prefix, float64 [B], clamped to [low, high].

        Args:
            prefixes: (prompt, steps); without steps the value of the prompt itself.
            meter: charged the tokens read as scored tokens, and the FLOPs.

        A prefix longer than the context cannot be read and gets `low`: no search should go on from it.
        """
        meter = meter or Meter()

        def charge(tokens: int) -> None:
            meter.charge(scored_tokens=tokens, flops=self.flops(tokens))

        rows = self.tokens(prefixes)
        out = np.full(len(rows), self.low, dtype=np.float64)
        fitting = [i for i, (row, _, _) in enumerate(rows) if len(row) <= self.context]
        with Inference(self.net):
            for batch in batches_by_length([len(rows[i][0]) for i in fitting]):
                part = [fitting[i] for i in batch]
                texts, starts = [rows[i][0] for i in part], [rows[i][1] for i in part]
                if self._memory:
                    values = self._memory.values(texts, starts, charge)
                else:
                    charge(sum(map(len, texts)))
                    last = torch.tensor([[len(text) - 1] for text in texts], device=self.device)
                    begin = torch.tensor(starts, device=self.device)
                    values = self.net(pad_right(texts, self.device), begin, last)[:, 0]
                out[part] = values.double().clamp(self.low, self.high).cpu().numpy()
        return out

    def save(self, folder: Path) -> None:
        """Write reader (as `LanguageModel.save`), head (safetensors) and range (JSON)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.reader.save(folder / "reader")
        head = {
            name: weight.detach().cpu().contiguous() for name, weight in self.net.head.state_dict().items()
        }
        safetensors.torch.save_file(head, folder / "head.safetensors")
        write_json(folder / "value.json", {"name": self.name, "low": self.low, "high": self.high})

    @classmethod
    def load(cls, folder: Path) -> ValueModel:
        """Read what `save` wrote, to where its reader is loaded; never goes to the network.

        Raises:
            UsageError: the folder holds no such model.
            MachineError: value.json is missing or damaged.
        """
        folder = Path(folder)
        about = read_json(folder / "value.json")
        reader = LanguageModel.load(folder / "reader")
        weights = safetensors.torch.load_file(folder / "head.safetensors")
        rows, width = weights["weight"].shape
        head = nn.Linear(width, rows)
        head.load_state_dict(weights)
        return cls(reader, head.to(reader.device), **about)

    def copy(self) -> ValueModel:
        """Return a model with weights of its own; the tokenizer is shared."""
        head = copy.deepcopy(self.net.head)
        return ValueModel(self.reader.copy(), head, name=self.name, low=self.low, high=self.high)


class ValueNet(nn.Module):
    """Tokens [B, L], padded on the right, and places [B, P] to the unclamped values there [B, P]."""

    def __init__(self, module: PreTrainedModel, head: nn.Linear) -> None:
        super().__init__()
        self.module: Any = module
        self.head = head

    @property
    def decoder(self) -> Any:
        """The module without its vocabulary layer."""
        return self.module.base_model

    def forward(self, tokens: torch.Tensor, starts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the values in float32; the steps of a row begin at its place in `starts` [B]."""
        hidden = self.decoder(input_ids=tokens, use_cache=False).last_hidden_state  # [B, L, H]
        at = hidden.take_along_dim(places[:, :, None], 1)  # [B, P, H]
        if not self.reads_likelihood:
            return self.judge(at)
        return self.judge(at, self.least_logprobs(hidden, tokens, starts).take_along_dim(places, 1))

    @property
    def reads_likelihood(self) -> bool:
        """Whether the head reads how likely the steps are."""
        return self.head.out_features == 2

    def least_logprobs(
        self, hidden: torch.Tensor, tokens: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        """Return the least log p(token | all before it) of the steps up to each place, [B, L]; 0 before."""
        places = torch.arange(1, tokens.shape[1], device=tokens.device)
        logprobs = self.logprobs(hidden[:, :-1], tokens[:, 1:])
        least = logprobs.masked_fill(places < starts[:, None], 0.0).cummin(1).values
        return nn.functional.pad(least, (1, 0))

    def logprobs(self, before: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return log p(token) given the hidden state [..., H] at the place before it, [...]."""
        vocabulary = self.module.get_output_embeddings()
        # States that compiled loops gave are float32, also of a model in bfloat16.
        logits = vocabulary(before.to(vocabulary.weight.dtype)).float()
        return logits.log_softmax(-1).take_along_dim(tokens[..., None], -1)[..., 0]

    def judge(self, hidden: torch.Tensor, least: torch.Tensor | None = None) -> torch.Tensor:
        """Return the value of hidden states [..., H] and least log-probabilities [...]."""
        rows = self.head(hidden.float())
        if least is None:
            return rows[..., 0]
        return rows[..., 0] + rows[..., 1] * (-least / UNLIKELY).clamp(max=1.0)


class _Memory:
    """What a value model has read, so that a longer text costs only what is new in it."""

    def __init__(self, net: ValueNet, most: int) -> None:
        self._net = net
        score = net.logprobs if net.reads_likelihood else None
        self._cache = PrefixCache(Decoder(net.module), most, states=True, score=score)
        self.prompts: dict[str, list[int]] = {}
        self.steps: dict[str, list[int]] = {}

    def values(
        self, texts: Sequence[Sequence[int]], starts: Sequence[int], charge: Callable[[int], None]
    ) -> torch.Tensor:
        """Return the unclamped value at the end of each text, whose steps begin at `starts`, [B].

        Args:
            texts: tokens.
            starts: one a text.
            charge: called with the number of tokens before they are read.
        """
        self._cache.follow_weights()
        number = {text: i for i, text in enumerate(dict.fromkeys(map(tuple, texts)))}
        distinct = [np.array(text, dtype=np.int32) for text in number]
        first = dict(zip(map(tuple, texts), starts, strict=True))
        begins = torch.tensor([first[text] for text in number], device=self._net.head.weight.device)
        parts = [
            self._judge(self._cache.read(distinct[part], charge), begins[part])
            for part in self._cache.parts(distinct)
        ]
        return torch.cat(parts)[[number[tuple(text)] for text in texts]]

    def _judge(self, reading: Reading, begins: torch.Tensor) -> torch.Tensor:
        """Return the values of texts that were read, [B]."""
        assert self._cache.states is not None
        slots = torch.from_numpy(reading.slots).to(begins.device)
        lengths = torch.from_numpy(reading.lengths).to(begins.device)
        hidden = self._cache.states[slots.gather(1, lengths[:, None] - 1)[:, 0]]
        if not self._net.reads_likelihood:
            return self._net.judge(hidden)
        column = torch.arange(slots.shape[1], device=slots.device)
        counted = (column >= begins[:, None]) & (column < lengths[:, None])
        least = self._cache.logprobs[slots].masked_fill(~counted, 0.0).amin(1)
        return self._net.judge(hidden, least)
