"""Builds the embedded tiny LM and its value model: `python -m selfstudy.tasks.build_tiny [--out FOLDER]`.

The base policy is trained on exact solutions of chains of 1 to 12 steps and stopped early, while about one
step in five is still wrong: there is something to learn and to search for. The value model starts from it
and learns to tell right lines from wrong ones, half of them the policy's own, with the next-token loss on
right lines kept beside. Both see only prompts of the training split. Takes about 12 minutes on two cores.
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
from selfstudy.evaluation.statistics import auc
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Request, TorchSampler
from selfstudy.models.language.scoring import pad_right
from selfstudy.models.language.tiny import POLICY, VALUE, WEIGHTS, random_tiny_model
from selfstudy.models.language.value import ValueModel
from selfstudy.signals.reference_values import reference_targets

log = logging.getLogger(__name__)
LONGEST = 12
TOKENS = 6000  # in a batch
LINE = 8  # characters of 47+8=55 and its newline
BETAS = (0.9, 0.98)


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """How the policy is trained: until chains of 12 steps come out right at a wanted rate."""

    wanted: float = 0.04
    """Share of validation chains of 12 steps that one sample must solve."""
    earliest: int = 300
    """Batches before the first check."""
    checked: int = 10
    """Batches between two checks."""
    most: int = 1500
    """Batches after which training is given up."""
    rate: float = 2e-3
    averaging: float = 0.96
    """Decay of the running mean of the weights, which is what is kept: the weights themselves jump about."""
    growth: int = 25
    """Batches after which the longest chain grows by one."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ValueRecipe:
    """How the value model is trained."""

    reading: int = 500
    """Batches of exact solutions that it first reads on from where the policy was stopped: without them it
    shares the policy's own mistakes about which operand comes next."""
    steps: int = 2600
    """Batches on which it learns to judge."""
    rate: float = 1.5e-3
    own_lines: int = 40_000
    """Single next lines drawn from the policy at right prefixes."""
    corrupted: float = 0.7
    """Share of the other solutions in which one line is made wrong."""
    first_error: float = 3.0
    """Weight of a first wrong line in the losses; lines after it weigh 0.2."""
    value_weight: float = 20.0
    """Weight of the squared error of the values, whose differences are about 1/K."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Marked:
    """A beginning of a solution, and the place of its first wrong line (None: all right)."""

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
            rate = pass_rate(averaged, LONGEST, 300, 1.0)
            log.info("policy step %d loss %.3f pass@1 %.3f", step, float(loss.detach()), rate)
            if rate >= recipe.wanted:
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


def own_next_lines(policy: LanguageModel, recipe: ValueRecipe) -> dict[tuple[int, int], list[Marked]]:
    """Draw single lines from the policy at right prefixes; keyed by (steps of the chain, lines given)."""
    pools: dict[tuple[int, int], list[Marked]] = {}
    sampler = TorchSampler(policy)
    rng = generator("own-lines", recipe.seed)
    drawn = 0
    while drawn < recipe.own_lines:
        steps = int(rng.integers(4, LONGEST + 1))
        given = int(rng.integers(0, steps))
        pairs = training_chains(rng, 512, steps)
        prefixes = [prompt + "".join(f"{line}\n" for line in lines[:given]) for prompt, lines in pairs]
        keys = [stream_key("own-lines", recipe.seed, drawn, i) for i in range(len(pairs))]
        replies = sampler.sample(
            [
                Request(prompt=p, key=k, max_tokens=LINE, stop=("\n",))
                for p, k in zip(prefixes, keys, strict=True)
            ]
        )
        pool = pools.setdefault((steps, given), [])
        for (prompt, lines), reply in zip(pairs, replies, strict=True):
            if reply.finish == "stop" and len(reply.text) == LINE - 1:
                kept = (*lines[:given], reply.text)
                pool.append(Marked(prompt, kept, None if reply.text == lines[given] else given))
        drawn += len(pairs)
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
    """Return the first value model: values of section A of the paper, learnt beside two auxiliary losses."""
    reader = _read_on(policy, recipe)
    value = ValueModel.from_policy(reader)
    value.name = "value of tiny-lm"
    right = nn.Linear(policy.module.config.hidden_size, 1)  # "all lines right so far"; dropped at the end
    words = reader.module.lm_head
    value.net.backbone.set_attn_implementation("eager")
    parts = nn.ModuleList([value.net, right, words])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=recipe.rate, weight_decay=0.01, betas=BETAS)
    batches = _value_batches(policy, recipe)
    parts.train()
    for step in range(recipe.steps):
        loss = _value_loss(value, right, words, next(batches), recipe)
        rate = recipe.rate * min(1.0, (step + 1) / 100) * max(0.03, 1 - step / recipe.steps)
        _update(optimizer, parts, loss, rate)
        if (step + 1) % 250 == 0:
            value.net.eval()
            quality = first_error_auc(policy, value, LONGEST, 60, seed=recipe.seed)
            value.net.train()
            log.info("value step %d loss %.4f AUC %.3f", step + 1, float(loss.detach()), quality["gain"])
    value.net.eval()
    value.net.backbone.set_attn_implementation("sdpa")
    return value


def _read_on(policy: LanguageModel, recipe: ValueRecipe) -> LanguageModel:
    """Return the policy trained further on exact solutions: what the value model's reading starts from."""
    reader = policy.copy()
    reader.module.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(reader.module.parameters(), lr=recipe.rate, weight_decay=0.01, betas=BETAS)
    lessons = BaseRecipe(seed=recipe.seed)
    reader.module.train()
    for step in range(recipe.reading):
        loss = functional.cross_entropy(*_next_tokens(reader, lessons, LONGEST * lessons.growth + step))
        rate = recipe.rate * min(1.0, (step + 1) / 50) * max(0.05, 1 - step / recipe.reading)
        _update(optimizer, reader.module, loss, rate)
    reader.module.eval()
    log.info("reader pass@1 %.3f", pass_rate(reader, LONGEST, 300, 1.0))
    return reader


def _value_batches(policy: LanguageModel, recipe: ValueRecipe) -> Iterator[list[Marked]]:
    """Yield whole solutions and single own lines in turn; half of the own lines wrong where enough are."""
    pools = own_next_lines(policy, recipe)
    places = sorted(pools)
    log.info("own lines: %d, wrong %.3f", sum(map(len, pools.values())), _share_wrong(pools))
    step = 0
    while True:
        rng = generator("value-batch", recipe.seed, step)
        step += 1
        if step % 2:
            yield corrupted_solutions(rng, int(rng.integers(2, LONGEST + 1)), recipe)
            continue
        steps, given = places[int(rng.integers(len(places)))]
        size = TOKENS // (3 + 2 * steps + LINE * (given + 1))
        pool = pools[steps, given]
        wrong = [item for item in pool if item.wrong is not None]
        good = [item for item in pool if item.wrong is None]
        half = min(len(wrong), size // 2)
        chosen = [wrong[i] for i in rng.permutation(len(wrong))[:half]]
        yield chosen + [good[i] for i in rng.permutation(len(good))[: size - half]]


def _share_wrong(pools: dict[tuple[int, int], list[Marked]]) -> float:
    items = [item for pool in pools.values() for item in pool]
    return sum(item.wrong is not None for item in items) / len(items)


def _value_loss(
    value: ValueModel, right: nn.Linear, words: nn.Linear, batch: list[Marked], recipe: ValueRecipe
) -> torch.Tensor:
    """Return the sum of three losses: squared error of values, "right so far", next tokens of right lines."""
    rows = value.tokens([(item.prompt, item.lines) for item in batch])
    tokens, ends = pad_right([row for row, _ in rows]), torch.tensor(rows[0][1])  # one length in a batch
    start, lines = int(ends[0]) + 1 - LINE, len(ends)
    first = torch.tensor([lines if item.wrong is None else item.wrong for item in batch])[:, None]  # [B, 1]
    place = torch.arange(lines)[None]
    good = (place < first).float()  # [B, lines]
    weight = torch.where(place == first, recipe.first_error, torch.where(place < first, 1.0, 0.2))
    targets = torch.tensor([reference_targets(item.lines, solve(item.prompt)) for item in batch])
    with torch.autocast("cpu", torch.bfloat16):
        hidden = value.net.backbone(input_ids=tokens, use_cache=False).last_hidden_state
        logits = words(hidden[:, start - 1 : -1])
        verdicts = right(hidden[:, ends])[..., 0]
        values = value.net.head(hidden[:, ends])[..., 0]
    next_token = functional.cross_entropy(logits.float().transpose(1, 2), tokens[:, start:], reduction="none")
    kept = good.repeat_interleave(LINE, dim=1)
    language = (next_token * kept).sum() / kept.sum().clamp(min=1)
    check = functional.binary_cross_entropy_with_logits(
        verdicts.float(), good, weight=weight, reduction="sum"
    )
    squares = ((values.float() - targets) ** 2 * weight).sum()
    return language + (check + recipe.value_weight * squares) / weight.sum()


def first_error_auc(
    policy: LanguageModel, value: ValueModel, steps: int, n: int, seed: int
) -> dict[str, float]:
    """Return how well the value model knows a first wrong line from a right one, on the policy's own samples.

    Samples are on validation prompts, up to their first wrong line. "gain" judges a line by the value it
    adds, "value" by the value after it, among lines at the same place.
    """
    rng = generator("first-error", seed)
    prompts = [prompt for prompt in draw(rng, 12 * n, steps)[0] if split_of(prompt) == "validation"][:n]
    requests = [
        Request(prompt=prompt, key=stream_key("first-error", seed, i), max_tokens=LINE * steps)
        for i, prompt in enumerate(prompts)
    ]
    gains: list[float] = []
    values_at: list[list[float]] = [[] for _ in range(steps)]
    right: list[bool] = []
    right_at: list[list[bool]] = [[] for _ in range(steps)]
    for prompt, reply in zip(prompts, TorchSampler(policy).sample(requests), strict=True):
        lines = tuple(reply.text.splitlines())[:steps]
        wrong = replay(prompt, lines)
        seen = lines if wrong is None else lines[: wrong + 1]
        scores = value.values([(prompt, seen[: k + 1]) for k in range(len(seen))])
        gains += np.diff(scores, prepend=0.0).tolist()
        right += [k != wrong for k in range(len(seen))]
        for k, score in enumerate(scores):
            values_at[k].append(float(score))
            right_at[k].append(k != wrong)
    same_place = [auc(v, r) for v, r in zip(values_at, right_at, strict=True) if 0 < sum(r) < len(r)]
    return {
        "gain": auc(gains, right),
        "value": float(np.mean(same_place)),
        "lines": len(right),
        "errors": right.count(False),
    }


def pass_rate(policy: LanguageModel, steps: int, n: int, temperature: float) -> float:
    """Return the share of validation chains whose last result is right in one sample."""
    rng = generator("pass-rate", steps)
    pairs = [
        pair for pair in zip(*draw(rng, 12 * n, steps), strict=True) if split_of(pair[0]) == "validation"
    ][:n]
    requests = [
        Request(prompt=p, key=stream_key("pass", i), max_tokens=LINE * steps, temperature=temperature)
        for i, (p, _) in enumerate(pairs)
    ]
    replies = TorchSampler(policy).sample(requests)
    return float(
        np.mean(
            [
                reply.text.splitlines()[-1:] == [lines[-1]]
                for reply, (_, lines) in zip(replies, pairs, strict=True)
            ]
        )
    )


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
    quality: dict[str, object] = {}
    if arguments.only != "value":
        policy = train_policy(BaseRecipe())
        write_whole(arguments.out / POLICY, policy.save)
    policy = LanguageModel.load(arguments.out / POLICY)
    for temperature, name in ((1.0, "pass@1"), (0.0, "greedy")):
        quality[name] = {
            f"{steps} steps": pass_rate(policy, steps, 500, temperature) for steps in (4, 6, 8, 12)
        }
    log.info("%s", quality)
    if arguments.only != "policy":
        value = train_value(policy, ValueRecipe())
        write_whole(arguments.out / VALUE, value.save)
    if (arguments.out / VALUE).exists():
        value = ValueModel.load(arguments.out / VALUE)
        quality["first-error AUC"] = {
            f"{steps} steps": first_error_auc(policy, value, steps, 400, seed=7) for steps in (8, 12)
        }
    write_json(arguments.out / "quality.json", quality)
    write_sums(arguments.out)
    log.info("%s", quality)


if __name__ == "__main__":
    main()
