"""Builds the embedded tiny LM and its value model: `python -m selfstudy.tasks.build_tiny [--out FOLDER]`.

The base policy is trained on exact solutions of chains of 1 to 12 steps and stopped early, while about one
step in five is still wrong: there is something to learn and to search for. The value model starts from it
and learns to tell right lines from wrong ones, half of them the policy's own, with the next-token loss on
right lines kept beside. Both see only prompts of the training split. Takes about 16 minutes on one core.
The files' checksums are written beside them; a machine that rounds differently gets others.
"""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from selfstudy.core.checkpoint import write_sums
from selfstudy.core.errors import MachineError
from selfstudy.core.files import write_json, write_whole
from selfstudy.core.random import generator, stream_key
from selfstudy.data.chains import MODULUS, OPERATORS, apply, draw, replay, solve
from selfstudy.data.splits import split_of
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.tiny import POLICY, VALUE, WEIGHTS, random_tiny_model
from selfstudy.models.language.value import ValueModel
from selfstudy.signals.reference_values import reference_targets
from selfstudy.tasks.chain import LINE_CHARACTERS
from selfstudy.tasks.tiny_quality import solve_rates, value_quality

log = logging.getLogger(__name__)
LONGEST = 12
TOKENS = 6000  # in a batch
OWN_BATCH = 600
BETAS = (0.9, 0.98)


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How the policy is trained: until chains of 12 steps come out right at a wanted rate."""

    wanted: float = 0.055
    """Share of validation chains of 12 steps that one sample must solve with every line right."""
    earliest: int = 360
    """Batches before the first check."""
    checked: int = 10
    """Batches between two checks."""
    most: int = 1500
    """Batches after which training is given up."""
    rate: float = 2e-3
    averaging: float = 0.98
    """Decay of the running mean of the weights, which is what is kept: the weights themselves jump about."""
    growth: int = 25
    """Batches after which the longest chain grows by one."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ValueRecipe:
    """How the value model is trained."""

    reading: int = 600
    """Batches of exact solutions that it first reads on from where the policy was stopped: without them it
    shares the policy's own mistakes about which operand comes next."""
    reading_rate: float = 1.5e-3
    steps: int = 400
    """Batches on which it learns to judge."""
    rate: float = 5e-4
    own: int = 12_000
    """Whole solutions drawn from the policy; every other batch is of them."""
    corrupted: float = 0.7
    """Share of the other solutions in which one line is made wrong."""
    first_error: float = 3.0
    """Weight of a first wrong line in the squared error."""
    value_weight: float = 20.0
    """Weight of the squared error of the values beside the next-token loss."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Marked:
    """A solution, and the place of its first wrong line (None: all right)."""

    prompt: str
    lines: tuple[str, ...]
    wrong: int | None


def training_chains(rng: np.random.Generator, n: int, steps: int) -> list[tuple[str, tuple[str, ...]]]:
    """Draw about `n` chains of the training split with their exact lines."""
    prompts, solutions = draw(rng, round(n / 0.7) + 1, steps)
    return [pair for pair in zip(prompts, solutions, strict=True) if split_of(pair[0]) == "train"]


def train_policy(recipe: BaseRecipe) -> LanguageModel:
    """Return the early-stopped policy.

    Raises:
        MachineError: the wanted rate was not reached.
    """
    model = random_tiny_model(seed=recipe.seed)
    module = model.module
    module.set_attn_implementation("eager")  # faster than the fused kernel for sequences this short
    mean = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging))
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=0.01, betas=BETAS)
    for step in range(recipe.most):
        module.train()
        loss = functional.cross_entropy(*_next_tokens(model, recipe, step))
        _update(optimizer, module, loss, recipe.rate * min(1.0, (step + 1) / 100))
        mean.update_parameters(module)
        if step >= recipe.earliest and step % recipe.checked == 0:
            averaged = LanguageModel("tiny-lm", copy.deepcopy(module), model.tokenizer)
            averaged.module.load_state_dict(mean.module.state_dict())
            averaged.module.set_attn_implementation("sdpa")
            rates = solve_rates(averaged, LONGEST, 600, 1.0)
            log.info("policy step %d loss %.3f pass@1 %s", step, float(loss.detach()), rates)
            if rates["lines"] >= recipe.wanted:
                return averaged
    raise MachineError(f"The policy solves under {recipe.wanted:.0%} of chains after {recipe.most} batches.")


def _next_tokens(model: LanguageModel, recipe: BaseRecipe, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [B, V, T] and targets [B, T] on the solutions of one batch of equally long chains."""
    rng = generator("build-policy", recipe.seed, step)
    lengths = np.arange(1, min(LONGEST, 2 + step // recipe.growth) + 1)
    weights = 3.0 + 10 * lengths  # longer chains more often: looking up a late operand is learnt last
    steps = int(rng.choice(lengths, p=weights / weights.sum()))
    pairs = training_chains(rng, TOKENS // (3 + 10 * steps), steps)
    rows = model.encode_all([prompt + "".join(f"{line}\n" for line in lines) for prompt, lines in pairs])
    tokens = torch.tensor(rows)  # one length: no padding
    start = 3 + 2 * steps
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.module(tokens[:, :-1], use_cache=False).logits
    return logits[:, start - 1 :].float().transpose(1, 2), tokens[:, start:]


def own_solutions(policy: LanguageModel, recipe: ValueRecipe) -> dict[int, list[Marked]]:
    """Draw whole solutions from the policy, by number of steps; malformed ones are left out."""
    pools: dict[int, list[Marked]] = {}
    sampler = open_sampler(policy)
    for turn, first in enumerate(range(0, recipe.own, OWN_BATCH)):
        steps = 2 + turn % (LONGEST - 1)
        prompts = [p for p, _ in training_chains(generator("own", recipe.seed, turn), OWN_BATCH, steps)]
        replies = sampler.sample(
            [
                Request(
                    prompt=p,
                    key=stream_key("own", recipe.seed, first + i),
                    max_tokens=LINE_CHARACTERS * steps,
                )
                for i, p in enumerate(prompts)
            ]
        )
        for prompt, reply in zip(prompts, replies, strict=True):
            lines = tuple(reply.text.splitlines())
            if len(lines) == steps and {len(line) for line in lines} == {LINE_CHARACTERS - 1}:
                pools.setdefault(steps, []).append(Marked(prompt, lines, replay(prompt, lines)))
    return pools


def corrupted_solutions(rng: np.random.Generator, steps: int, recipe: ValueRecipe) -> list[Marked]:
    """Draw whole solutions, most of them with one line made wrong and the lines after it built on that."""
    marked = []
    for prompt, lines in training_chains(rng, TOKENS // (3 + 10 * steps), steps):
        if rng.random() >= recipe.corrupted:
            marked.append(Marked(prompt, lines, None))
            continue
        at = int(rng.integers(steps))
        bad = _corrupt(rng, lines, at)
        rest = (
            solve(bad[-2:] + "".join(line[2:4] for line in lines[at + 1 :]) + ":") if at + 1 < steps else ()
        )
        marked.append(Marked(prompt, (*lines[:at], bad, *rest), at))
    return marked


def _corrupt(rng: np.random.Generator, lines: Sequence[str], at: int) -> str:
    """Return line `at` with a wrong result, another step's operation, or a wrong first operand."""
    left, operation = int(lines[at][:2]), lines[at][2:4]
    kind = rng.integers(3)
    others = [line[2:4] for line in lines[max(0, at - 2) : at + 3] if line[2:4] != operation]
    if kind == 1 and others:
        operation = others[int(rng.integers(len(others)))]
    elif kind == 2:
        left = int((left + rng.integers(1, MODULUS)) % MODULUS)
    result = int(apply(np.array(left), np.array(OPERATORS.index(operation[0])), np.array(int(operation[1]))))
    line = f"{left:02d}{operation}={result:02d}"
    if line == lines[at]:
        digits = rng.integers(1, 10) * (10 if rng.random() < 0.5 else 1)
        wrong = (result + digits) % MODULUS if digits >= 10 else result // 10 * 10 + (result + digits) % 10
        line = f"{line[:-2]}{wrong:02d}"
    return line


def train_value(policy: LanguageModel, recipe: ValueRecipe) -> ValueModel:
    """Return the first value model: values of section A of the paper, learnt beside the next-token loss."""
    value = ValueModel.from_policy(_read_on(policy, recipe), likelihood=True)
    value.name = "value of tiny-lm"
    value.reader.module.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(value.net.parameters(), lr=recipe.rate, weight_decay=0.01, betas=BETAS)
    batches = _value_batches(policy, recipe)
    value.net.train()
    for step in range(recipe.steps):
        loss = _value_loss(value, next(batches), recipe)
        rate = recipe.rate * min(1.0, (step + 1) / 50) * max(0.03, 1 - step / recipe.steps)
        _update(optimizer, value.net, loss, rate)
        if (step + 1) % 100 == 0:
            quality = value_quality(policy, value, LONGEST, 100, seed=recipe.seed)
            value.net.train()
            log.info("value step %d loss %.4f %s", step + 1, float(loss.detach()), quality)
    value.net.eval()
    value.reader.module.set_attn_implementation("sdpa")
    return value


def _read_on(policy: LanguageModel, recipe: ValueRecipe) -> LanguageModel:
    """Return the policy trained further on exact solutions: what the value model's reading starts from."""
    reader = policy.copy()
    reader.module.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        reader.module.parameters(), lr=recipe.reading_rate, weight_decay=0.01, betas=BETAS
    )
    lessons = BaseRecipe(seed=recipe.seed)
    reader.module.train()
    for step in range(recipe.reading):
        loss = functional.cross_entropy(*_next_tokens(reader, lessons, LONGEST * lessons.growth + step))
        now = recipe.reading_rate * min(1.0, (step + 1) / 50) * max(0.03, 1 - step / recipe.reading)
        _update(optimizer, reader.module, loss, now)
    reader.module.eval()
    log.info("reader pass@1 %s", solve_rates(reader, LONGEST, 300, 1.0))
    return reader


def _value_batches(policy: LanguageModel, recipe: ValueRecipe) -> Iterator[list[Marked]]:
    """Yield the policy's own solutions and corrupted ones in turn."""
    pools = own_solutions(policy, recipe)
    step = 0
    while True:
        rng = generator("value-batch", recipe.seed, step)
        step += 1
        steps = int(rng.integers(2, LONGEST + 1))
        if step % 2:
            yield corrupted_solutions(rng, steps, recipe)
        else:
            size = TOKENS // (3 + 10 * steps)
            yield [pools[steps][i] for i in rng.permutation(len(pools[steps]))[:size]]


def _value_loss(value: ValueModel, batch: list[Marked], recipe: ValueRecipe) -> torch.Tensor:
    """Return the sum of two losses: squared error of the values, next tokens of right lines."""
    rows = value.tokens([(item.prompt, item.lines) for item in batch])
    _, start, places = rows[0]  # one length in a batch
    tokens, ends = torch.tensor([row for row, _, _ in rows]), torch.tensor(places)
    lines = len(ends)
    first = torch.tensor([lines if item.wrong is None else item.wrong for item in batch])[:, None]  # [B, 1]
    place = torch.arange(lines)[None]
    weight = torch.where(place == first, recipe.first_error, 1.0)
    targets = torch.tensor([reference_targets(item.lines, solve(item.prompt)) for item in batch])
    with torch.autocast("cpu", torch.bfloat16):
        hidden = value.net.decoder(input_ids=tokens, use_cache=False).last_hidden_state
        least = value.net.least_logprobs(hidden, tokens, torch.full((len(batch),), start))
        next_token = value.net.logprobs(hidden[:, start - 1 : -1], tokens[:, start:])
    values = value.net.judge(hidden[:, ends], least[:, ends])
    kept = (place < first).repeat_interleave(LINE_CHARACTERS, dim=1)
    language = -(next_token * kept).sum() / kept.sum().clamp(min=1)
    squares = ((values - targets) ** 2 * weight).sum() / weight.sum()
    return language + recipe.value_weight * squares


def _update(optimizer: torch.optim.Optimizer, module: nn.Module, loss: torch.Tensor, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


def main() -> None:
    """Build both models and write them with their quality and checksums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--only", choices=("policy", "value"), help="build one, keep the other as it is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # so that sums, and with them the weights, do not depend on the number of cores
    quality: dict[str, object] = {}
    if arguments.only != "value":
        policy = train_policy(BaseRecipe())
        write_whole(arguments.out / POLICY, policy.save)
    policy = LanguageModel.load(arguments.out / POLICY)
    for temperature, name in ((1.0, "pass@1"), (0.0, "greedy")):
        quality[name] = {
            f"{steps} steps": solve_rates(policy, steps, 2000, temperature) for steps in (4, 6, 8, 12)
        }
    log.info("%s", quality)
    if arguments.only != "policy":
        value = train_value(policy, ValueRecipe())
        write_whole(arguments.out / VALUE, value.save)
    if (arguments.out / VALUE).exists():
        value = ValueModel.load(arguments.out / VALUE)
        quality["value model"] = {
            f"{steps} steps": value_quality(policy, value, steps, 400, seed=7) for steps in (4, 8, 12)
        }
    write_json(arguments.out / "quality.json", quality)
    write_sums(arguments.out)
    log.info("%s", quality)


if __name__ == "__main__":
    main()
