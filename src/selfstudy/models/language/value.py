"""A value model: how good a partial solution is, one number for a prompt and the steps so far.

A decoder without its vocabulary layer and a linear head on the last real token's hidden state. The ReST-MCTS*
authors (Zhang et al., 2024) map the vocabulary logits instead; the hidden state says the same for less.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from selfstudy.core.budget import Meter
from selfstudy.core.errors import DataError
from selfstudy.core.files import read_json, write_json
from selfstudy.models.language.model import LanguageModel, context_of, encode_all, no_bars, pretrained
from selfstudy.models.language.prefixes import PrefixStore, can_continue
from selfstudy.models.language.scoring import batches_by_length, pad_right

Prefix = tuple[str, Sequence[str]]
"""A prompt and the steps after it."""


class ValueModel:
    """A backbone, a linear head and a tokenizer.

    Attributes:
        net: the trainable part, an `nn.Module` from tokens [B, L] to values [B, L].
        low, high: the range that `values` clamps to.
        context: positions the backbone has, in tokens.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: nn.Linear,
        tokenizer: PreTrainedTokenizerFast,
        *,
        name: str = "value",
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        self.name, self.low, self.high = name, low, high
        self.net = ValueNet(backbone, head).eval()
        self.tokenizer = tokenizer
        self.context = context_of(backbone.config, tokenizer)
        self._prefixes: PrefixStore | None = None

    def remembering(self) -> ValueModel:
        """Return this model with a memory for the prefixes it reads, so that their extensions are cheap.

        It shares the weights, which must not change while it is in use.
        """
        model = copy.copy(self)
        if can_continue(self.net.backbone):
            model._prefixes = PrefixStore(self.net.backbone)
        return model

    @classmethod
    def from_policy(cls, policy: LanguageModel) -> ValueModel:
        """Return a model with the policy's own backbone weights and a head that says 0.5 to everything."""
        backbone = copy.deepcopy(policy.module.base_model)
        head = nn.Linear(policy.module.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(head.weight)
        nn.init.constant_(head.bias, 0.5)
        return cls(backbone, head.to(policy.device), policy.tokenizer, name=f"value of {policy.name}")

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

    def tokens(self, prefixes: Sequence[Prefix]) -> list[tuple[list[int], list[int]]]:
        """Return (tokens, ends) of each prefix: `ends[i]` is the place of the last token of step i.

        A prompt's tokens, then those of each step and its newline. The same text always gets the same tokens,
        so a prefix's tokens begin those of every longer one.

        Raises:
            DataError: a prefix without tokens.
        """
        prompts = list(dict.fromkeys(prompt for prompt, _ in prefixes))
        steps = list(dict.fromkeys(step for _, steps in prefixes for step in steps))
        of_prompt = dict(zip(prompts, encode_all(self.tokenizer, prompts, begins=True), strict=True))
        lines = [f"{step}\n" for step in steps]
        of_step = dict(zip(steps, encode_all(self.tokenizer, lines, begins=False), strict=True))
        out = []
        for prompt, steps_here in prefixes:
            row, ends = list(of_prompt[prompt]), []
            for step in steps_here:
                row += of_step[step]
                ends.append(len(row) - 1)
            if not row:
                raise DataError("A prefix has neither a prompt nor steps, so there is nothing to value.")
            out.append((row, ends))
        return out

    def values(self, prefixes: Sequence[Prefix], meter: Meter | None = None) -> np.ndarray:
        """Return the value after the last step of each prefix, float64 [B], clamped to [low, high].

        Args:
            prefixes: (prompt, steps); without steps the value of the prompt itself.
            meter: charged the tokens read as scored tokens, and the FLOPs.

        A prefix longer than the context cannot be read and gets `low`: no search should go on from it.
        """
        meter = meter or Meter()
        rows = [tokens for tokens, _ in self.tokens(prefixes)]
        out = np.full(len(rows), self.low, dtype=np.float64)
        fitting = [i for i, row in enumerate(rows) if len(row) <= self.context]
        self.net.eval()
        with torch.inference_mode():
            for batch in batches_by_length([len(rows[i]) for i in fitting]):
                part = [fitting[i] for i in batch]
                texts = [rows[i] for i in part]
                read = self._prefixes.missing(texts) if self._prefixes else sum(map(len, texts))
                meter.charge(scored_tokens=read, flops=self.flops(read))
                if self._prefixes:
                    values = self.net.head(self._prefixes.read(texts)[1].float())
                else:
                    last = torch.tensor([len(text) - 1 for text in texts], device=self.device)
                    values = self.net(pad_right(texts, self.device), last[:, None])
                out[part] = values[:, 0].double().clamp(self.low, self.high).cpu().numpy()
        return out

    def save(self, folder: Path) -> None:
        """Write backbone (save_pretrained), head (safetensors), range (JSON) and tokenizer."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with no_bars():
            self.net.backbone.save_pretrained(folder / "backbone")
        self.tokenizer.save_pretrained(folder / "backbone")
        head = {
            name: weight.detach().cpu().contiguous() for name, weight in self.net.head.state_dict().items()
        }
        safetensors.torch.save_file(head, folder / "head.safetensors")
        write_json(folder / "value.json", {"name": self.name, "low": self.low, "high": self.high})

    @classmethod
    def load(cls, folder: Path) -> ValueModel:
        """Read what `save` wrote; never goes to the network.

        Raises:
            UsageError: the folder holds no such model.
            MachineError: value.json is missing or damaged.
        """
        folder = Path(folder)
        about = read_json(folder / "value.json")
        backbone = pretrained(AutoModel, str(folder / "backbone"), local_files_only=True)
        tokenizer = pretrained(AutoTokenizer, str(folder / "backbone"), local_files_only=True)
        weights = safetensors.torch.load_file(folder / "head.safetensors")
        head = nn.Linear(weights["weight"].shape[1], 1)
        head.load_state_dict(weights)
        return cls(backbone, head, tokenizer, **about)

    def copy(self) -> ValueModel:
        """Return a model with weights of its own; the tokenizer is shared."""
        net = copy.deepcopy(self.net)
        return ValueModel(
            net.backbone, net.head, self.tokenizer, name=self.name, low=self.low, high=self.high
        )


class ValueNet(nn.Module):
    """Tokens [B, L], padded on the right, and places [B, P] to the unclamped values there [B, P]."""

    def __init__(self, backbone: PreTrainedModel, head: nn.Linear) -> None:
        super().__init__()
        self.backbone: Any = backbone
        self.head = head

    def forward(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return the values in float32."""
        hidden = self.backbone(input_ids=tokens, use_cache=False).last_hidden_state  # [B, L, H]
        at = hidden.take_along_dim(places[:, :, None], 1).float()  # [B, P, H]
        return self.head(at)[..., 0]
