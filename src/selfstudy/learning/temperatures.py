"""A temperature of its own for each training input, learned beside the weights.

Qiu et al. 2023, "Not All Semantics are Created Equal", arXiv 2305.11965. With h_i(z) the similarity of input
i to a negative z, the objective is

    min over tau_i >= least of  (1/N) sum_i  tau_i log mean_z exp(h_i(z) / tau_i) + tau_i rho,

the dual of the worst weights p of the negatives within KL(p || uniform) <= rho. So tau_i grows while the
weights of the negatives of i are more concentrated than rho allows, and shrinks otherwise.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import safetensors.torch
import torch
from torch import nn

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.files import read_json, write_json
from selfstudy.learning.loops import check_positive

CONFIG, STATE = "config.json", "temperatures.safetensors"
UNVISITED = -math.inf  # log s of an input that no step has had


@dataclass(frozen=True, kw_only=True)
class TemperatureLearning:
    """How temperatures are learned; names in brackets are those of the paper."""

    least: float = 0.05
    """Smallest temperature."""
    greatest: float = 1.0
    """Largest temperature."""
    rho: float = 0.2
    """Divergence of the weights of the negatives from uniform that is aimed at, in nats; 0.1 to 0.5."""
    new_mean: float = 0.8
    """Share of the new value in the moving average of mean exp(h / tau) [gamma]; 1 is no average."""
    new_gradient: float = 0.5
    """Share of the new value in the moving average of a temperature's gradient [beta]."""
    rate: float = 0.03
    """Learning rate of the temperatures [eta]; 0 leaves them where they begin (SogCLR)."""
    clamp: float = 3.0
    """Largest gradient of a temperature, either way."""

    def validate(self, negatives: int | None = None) -> None:
        """Raise a UsageError for settings that cannot be right.

        Args:
            negatives: n, how many are weighed for each input; their divergence is at most log n.
        """
        check_positive(self, least=0, rho=0, clamp=0)
        if not (self.least <= self.greatest and self.rate >= 0):
            raise UsageError(
                f"TemperatureLearning has least {self.least}, greatest {self.greatest} and rate {self.rate}: "
                "least must not be above greatest, and rate not below 0."
            )
        if not (0 < self.new_mean <= 1 and 0 < self.new_gradient <= 1):
            raise UsageError(
                f"TemperatureLearning has new_mean {self.new_mean} and new_gradient {self.new_gradient}: "
                "they are shares, above 0 and at most 1."
            )
        if negatives is not None and not self.rho < math.log(negatives):
            raise UsageError(
                f"rho is {self.rho}, but the weights of {negatives} negatives diverge from uniform by at "
                f"most log {negatives} = {math.log(negatives):.3g}: every temperature would fall to its "
                "least. Give a smaller rho, or larger batches."
            )


class Weighed(NamedTuple):
    """What one step finds for rows of negatives; nothing carries a gradient.

    Attributes:
        weights: [..., C], exp(h / tau) / (n s'); 0 where nothing is counted, else with a sum near 1.
        log_mean: [...], log s'.
        gradient: [...], d of the temperature.
        divergence: [...], KL of the row's own normalised weights from uniform, in nats.
    """

    weights: torch.Tensor
    log_mean: torch.Tensor
    gradient: torch.Tensor
    divergence: torch.Tensor


@torch.no_grad()
def weigh(
    similarities: torch.Tensor,
    counted: torch.Tensor,
    temperatures: torch.Tensor,
    log_mean: torch.Tensor,
    *,
    new_mean: float,
    rho: float,
) -> Weighed:
    """Weigh the negatives of each row by exp(h / tau) over its moving average (Qiu et al. 2023, algorithm 1).

        g = mean_c exp(h_c / tau)              s' = (1 - gamma) s + gamma g, at a first visit g
        P_c = exp(h_c / tau) / s'              d = log s' + rho - mean_c P_c h_c / tau

    All of it on logarithms, so that no temperature is too small.

    Args:
        similarities: h [..., C].
        counted: which of them are negatives, [..., C], bool.
        temperatures: tau [...].
        log_mean: log s [...], `UNVISITED` at a first visit.
        new_mean: gamma.
        rho: of the objective.
    """
    scaled = similarities / temperatures[..., None]
    count = counted.sum(-1).to(scaled).log()
    kept = scaled.masked_fill(~counted, -torch.inf)
    now = kept.logsumexp(-1) - count
    share = torch.tensor(new_mean, dtype=now.dtype, device=now.device)
    averaged = torch.logaddexp(torch.log1p(-share) + log_mean, share.log() + now)
    averaged = torch.where(log_mean == UNVISITED, now, averaged)
    weights = torch.exp(kept - (averaged + count)[..., None])
    gradient = averaged + rho - (weights * scaled).sum(-1)
    divergence = (torch.exp(kept - (now + count)[..., None]) * scaled).sum(-1) - now
    return Weighed(weights, averaged, gradient, divergence)


class IndividualTemperatures(nn.Module):
    """The state of each of N training inputs, by its place in the data; three numbers an input.

    In training mode `weigh` moves the state of the inputs that it is given; in evaluation mode it leaves all
    of it alone. Where several processes train together each of them is given the ids and similarities of
    all, and so holds the same state.

    Args:
        samples: N.
        first: where every temperature begins.
        settings: how they are learned.
        allow_new: whether a saved state of fewer inputs may be loaded; the others begin anew.

    Attributes:
        tau: [N], temperatures.
        log_mean: [N], log s; `UNVISITED` before the first step.
        momentum: [N], u, the averaged gradient of a temperature.
    """

    def __init__(
        self, samples: int, first: float, settings: TemperatureLearning, *, allow_new: bool = False
    ) -> None:
        super().__init__()
        self.first, self.settings, self._allow_new = first, settings, allow_new
        self.tau: torch.Tensor
        self.log_mean: torch.Tensor
        self.momentum: torch.Tensor
        self.register_buffer("tau", torch.full((samples,), first))
        self.register_buffer("log_mean", torch.full((samples,), UNVISITED))
        self.register_buffer("momentum", torch.zeros(samples))

    @property
    def by_input(self) -> np.ndarray:
        """The temperature of each input: [N], float32."""
        return self.tau.detach().cpu().numpy().copy()

    @property
    def visited(self) -> torch.Tensor:
        """Which inputs a step has had: [N], bool."""
        return self.log_mean != UNVISITED

    def weigh(self, similarities: torch.Tensor, counted: torch.Tensor, ids: torch.Tensor) -> Weighed:
        """Weigh the negatives of B inputs in V views, with the temperatures from before this step.

        Args:
            similarities: h [V, B, C]; no gradient flows through what is returned.
            counted: which of them are negatives, [V, B, C] or what broadcasts to it.
            ids: [B], places in the data, none twice.

        Raises:
            DataError: ids that are no places in the data, or one that comes twice.
        """
        self._require(ids)
        similarities = similarities.detach()
        views = len(similarities)
        tau, log_mean = (part[ids].to(similarities).expand(views, -1) for part in (self.tau, self.log_mean))
        settings = self.settings
        found = weigh(
            similarities,
            counted.expand_as(similarities),
            tau,
            log_mean,
            new_mean=settings.new_mean,
            rho=settings.rho,
        )
        if self.training:
            self._move(found, ids)
        return found

    @torch.no_grad()
    def _move(self, found: Weighed, ids: torch.Tensor) -> None:
        """Take one step of the temperatures of `ids`, the views averaged."""
        settings = self.settings
        log_mean = found.log_mean.logsumexp(0) - math.log(len(found.log_mean))
        gradient = found.gradient.mean(0).clamp(-settings.clamp, settings.clamp).to(self.momentum)
        momentum = (1 - settings.new_gradient) * self.momentum[ids] + settings.new_gradient * gradient
        moved = (self.tau[ids] - settings.rate * momentum).clamp(settings.least, settings.greatest)
        self.log_mean[ids] = log_mean.to(self.log_mean)
        self.momentum[ids] = momentum
        if settings.rate:  # a fixed temperature may lie outside the bounds
            self.tau[ids] = moved

    def _require(self, ids: torch.Tensor) -> None:
        if ids.ndim != 1 or ids.dtype.is_floating_point or ids.dtype == torch.bool:
            raise DataError(
                f"Ids of training inputs are whole numbers [B]; given were {ids.dtype} of shape "
                f"{tuple(ids.shape)}."
            )
        ordered = ids.sort().values
        for what, wrong in (
            (
                f"no place among {len(self.tau)} training inputs",
                ordered[(ordered < 0) | (ordered >= len(self.tau))],
            ),
            (
                "twice in one batch, which would write its state twice",
                ordered[1:][ordered[1:] == ordered[:-1]],
            ),
        ):
            if len(wrong):
                raise DataError(
                    f"The id {int(wrong[0])} is {what}. Give each input its own place in the data."
                )

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Take over a saved state.

        Raises:
            DataError: it is that of another number of inputs, and not of fewer where those are allowed.
        """
        saved, here = len(state_dict["tau"]), len(self.tau)
        if saved > here or (saved < here and not self._allow_new):
            raise DataError(
                f"The saved temperatures are those of {saved} training inputs; the data have {here} now. Go "
                "on with the data that the run began with, or begin anew with another --out. Inputs added "
                "behind the others are taken with --allow-new-images."
            )
        fresh = IndividualTemperatures(here, self.first, self.settings).state_dict()
        grown = {name: torch.cat((state_dict[name], rest[saved:])) for name, rest in fresh.items()}
        return super().load_state_dict(grown, strict, assign)

    def save(self, folder: Path) -> None:
        """Write the state (safetensors) and its settings (JSON)."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"samples": len(self.tau), "first": self.first, "settings": asdict(self.settings)}
        write_json(folder / CONFIG, config)
        state = {name: value.cpu().contiguous() for name, value in self.state_dict().items()}
        safetensors.torch.save_file(state, folder / STATE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, in evaluation mode."""
        config = read_json(folder / CONFIG)
        found = cls(config["samples"], config["first"], TemperatureLearning(**config["settings"]))
        found.load_state_dict(safetensors.torch.load_file(folder / STATE))
        return found.eval()
