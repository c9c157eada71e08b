"""What direct Nash optimisation is worth, with a judge of real text whose preferences go round.

A small word-level model continues sentences of film reviews (MR, Pang and Lee 2005), given the verdict and
three words; the reference is the reviewer's continuation. The judge is the majority of three criteria: the
probability of the right verdict under a bag-of-words classifier, the likelihood of a word under a 4-gram
model, and the share of distinct bigrams at a length within a band. The judge that trains and the judge that
measures are fitted on different reviews. All arms get the same prompts, samples and gradient steps, and those
that ask the judge the same number of comparisons. Settings were fixed on validation prompts.

R1 holds head to head. Over the base its two arms differ by the seed of training, with both signs, and three
times the steps on validation prompts (one seed) left offline DPO ahead there by a point.

R3 is exact: games on a table.
"""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from selfstudy.core.random import generator
from selfstudy.core.run import Run
from selfstudy.data.library import library_file
from selfstudy.evaluation import preference_games as games
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.evaluation.tournament import cyclic_share, length_controlled, tournament
from selfstudy.learning.fine_tuning import Example, FineTuning, fine_tune
from selfstudy.learning.preferences import Preference
from selfstudy.methods.reasoning.dno import Dno
from selfstudy.models.language.model import LanguageModel
from selfstudy.search.rollouts import draw_groups
from selfstudy.signals.judges import Contest, function_judge, symmetric
from selfstudy.signals.ngrams import NGrams
from selfstudy.tasks.preferences import PreferenceTask
from selfstudy.tasks.reasoning import Item, Problem

WORDS = 3000  # of the vocabulary; all others are one
UNKNOWN, VERDICTS = "<unk>", ("bad", "good")
GIVEN = 3  # words of a review in its prompt
BAND = (10, 22)  # words of a continuation
LONGEST = 28  # tokens of an output
DRAWS = 2  # outputs of each model to a held-out prompt
SHARES = {"judging": 2200, "measuring": 2200, "prompts": 1000, "validation": 300, "test": 500}
ROUNDS, STEPS = 3, 18
BASE = FineTuning(learning_rate=3e-3, steps=400, batch=64)
COMMON: dict[str, Any] = {
    "samples": 5,
    "temperature": 1.0,
    "validation": 0,
    "least": 0.5,
    "gap": 0.4,
    "student_gap": 0.4,
}
LEARNING = Preference(beta=0.1, learning_rate=3e-4, steps=STEPS, batch=32)
ARMS: dict[str, dict[str, Any]] = {
    "DNO": {},
    "offline DPO": {"rounds": 1},
    "iterative DPO": {"reference": "base"},
    "DNO-Restrictive": {"pairing": "reference-over-students"},
    "SPIN": {"pairing": "reference-always"},
}


class Review(NamedTuple):
    """One sentence in words of the vocabulary."""

    words: tuple[str, ...]
    label: int


@cache
def reviews() -> dict[str, list[Review]]:
    """Return the sentences in disjoint parts: those with few unknown words and of a usual length."""
    path = library_file("text_cls/mr.parquet")
    if path is None:
        raise FileNotFoundError("Set $SELFSTUDY_DATA to the folder that holds text_cls/mr.parquet.")
    table = pd.read_parquet(path)
    texts = [text.split() for text in table["text"]]
    known = {word for word, _ in Counter(word for text in texts for word in text).most_common(WORDS)}
    read = [
        Review(tuple(word if word in known else UNKNOWN for word in text), int(label))
        for text, label in zip(texts, table["label"], strict=True)
    ]
    kept = [r for r in read if 8 <= len(r.words) <= 30 and r.words.count(UNKNOWN) <= 0.3 * len(r.words)]
    order = generator("reviews").permutation(len(kept))
    parts, start = {}, 0
    for name, size in SHARES.items():
        parts[name] = [kept[i] for i in order[start : start + size]]
        start += size
    if len(parts["test"]) < SHARES["test"]:
        raise ValueError(f"{path} holds only {len(kept)} usable sentences.")
    return parts


class Majority:
    """The majority of three criteria, fitted on some reviews."""

    def __init__(self, fitted_on: list[Review]) -> None:
        counts = CountVectorizer(token_pattern=r"\S+")
        fitted = LogisticRegression().fit(
            counts.fit_transform([" ".join(r.words) for r in fitted_on]), [r.label for r in fitted_on]
        )
        self._good = dict(zip(counts.get_feature_names_out(), fitted.coef_[0].tolist(), strict=True))
        self._bias = float(fitted.intercept_[0])
        self._fluent = NGrams([r.words for r in fitted_on], order=4)

    def __call__(self, prompt: str, outputs: list[str]) -> np.ndarray:
        """Return wins [m, m]: each criterion has a vote, a tie half of one."""
        verdict, _, *given = prompt.split()
        words = [text.split() for text in outputs]
        sign = 1 if verdict == "good" else -1
        right = [sign * (self._bias + sum(self._good.get(word, 0.0) for word in w)) for w in words]
        criteria = [right, [self._likelihood(given, w) for w in words], [_variety(w) for w in words]]
        votes = sum((np.sign(np.subtract.outer(c, c)) + 1) / 2 for c in map(np.asarray, criteria))
        return (np.sign(votes - 1.5) + 1) / 2

    def _likelihood(self, given: list[str], words: list[str]) -> float:
        """Return the mean log-probability of the known words and the end."""
        logs = self._fluent.logprobs(words, before=given)
        return float(np.mean([x for x, w in zip(logs, [*words, "."], strict=True) if w != UNKNOWN]))


def _variety(words: list[str]) -> float:
    pairs = list(itertools.pairwise(words))
    return len(set(pairs)) / len(pairs) if BAND[0] <= len(words) <= BAND[1] else 0.0


@cache
def judges() -> tuple[Majority, Majority]:
    """Return the judge that trains and the one that measures."""
    return Majority(reviews()["judging"]), Majority(reviews()["measuring"])


def item(review: Review) -> Item:
    """Return a sentence as a prompt and its continuation."""
    prompt = f"{VERDICTS[review.label]} : {' '.join(review.words[:GIVEN])}"
    rest = " ".join(review.words[GIVEN:])
    return Item(prompt, rest, (rest,))


@cache
def review_task() -> PreferenceTask:
    """Return the prompts with the training judge."""
    seen: dict[str, None] = {}
    splits: dict[str, list[Item]] = {}
    for split, part in (("train", "prompts"), ("validation", "validation"), ("test", "test")):
        items = [item(review) for review in reviews()[part]]
        splits[split] = [i for i in items if i.prompt not in seen and not seen.update({i.prompt: None})]
    training, measuring = judges()
    return PreferenceTask("reviews", splits, training, evaluation_judge=measuring, tokens=LONGEST)


def untrained() -> LanguageModel:
    """Return a random word-level Llama with an end token."""
    words = sorted({word for part in reviews().values() for review in part for word in review.words})
    ids = {word: i for i, word in enumerate(["<end>", ":", *VERDICTS])}
    for word in (UNKNOWN, *words):
        ids.setdefault(word, len(ids))
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=64,
        intermediate_size=172,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = LlamaForCausalLM(config)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>")
    return LanguageModel("reviews", module, fast)


def base_model(folder: Path) -> LanguageModel:
    """Return the model fine-tuned on continuations; made once for all arms and seeds."""
    examples = [
        Example(i.prompt, i.answer) for part in ("prompts", "judging") for i in map(item, reviews()[part])
    ]
    with Run(folder, {"base": "reviews"}, seed=0) as run:
        return run.stage("base", lambda: fine_tune(untrained(), examples, BASE, run, "base"))


def outputs(model: LanguageModel, problems: list[Problem], run: Run) -> list[list[Any]]:
    """Return (text, tokens) of the outputs to each problem; all models get the same random numbers."""
    keys = [[run.key("measure", problem.id, i) for i in range(DRAWS)] for problem in problems]
    groups = draw_groups(model, review_task(), problems, run.meter, keys=keys, temperature=1.0)
    return [[answer.text, len(answer.tokens)] for group in groups for answer in group.answers]


def trained(seed: int, shared: Path) -> dict[str, Any]:
    """Train all arms of a seed, and let them continue held-out prompts; done once for the claims that ask."""
    task = review_task()
    problems = list(task.validation if seed >= 100 else task.test)
    base = base_model(shared / "base")
    with Run(shared / f"seed-{seed}", {"arms": list(ARMS)}, seed=seed) as run:
        found = {"base": run.stage("base outputs", lambda: outputs(base, problems, run))}
        facts: dict[str, Any] = {}
        for name, fields in ARMS.items():
            steps = STEPS * ROUNDS // fields.get("rounds", ROUNDS)
            settings = Preference(**{**LEARNING.__dict__, "steps": steps})
            method = Dno(**{"rounds": ROUNDS, **COMMON, **fields, "preference": settings})
            arm = Run(shared / f"seed-{seed}-{name.replace(' ', '-')}", {"arm": name}, seed=seed)
            with arm:
                fit = method.fit(task.metered(arm.meter), base, arm)
                facts[name] = {"rounds": fit.metrics["rounds"], "spent": arm.meter.snapshot()}
            found[name] = run.stage(f"{name} outputs", partial(outputs, fit.model, problems, run))
        return {"problems": [p for p in problems for _ in range(DRAWS)], "outputs": found, "facts": facts}


def measured(seed: int, run: Run, names: tuple[str, ...]) -> Values:
    """Return win rates of a seed's arms by the measuring judge: over the base, and head to head with DNO."""
    shared = run.directory.parents[1] / "shared"
    all_arms = trained(seed, shared)
    found = {name: all_arms["outputs"][name] for name in ("base", *names)}
    judge = function_judge(judges()[1], run.meter)
    texts = {name: [text for text, _ in rows] for name, rows in found.items()}
    lengths = {name: [n for _, n in rows] for name, rows in found.items()}
    wins = tournament(all_arms["problems"], texts, judge)
    values: Values = {name: float(wins[name, "base"].mean()) for name in names}
    for name in names[1:]:
        values[f"DNO against {name}"] = float(wins["DNO", name].mean())
    for name in names:
        values[f"{name}, at equal lengths"] = length_controlled(
            wins[name, "base"], lengths[name], lengths["base"]
        )
    for name in ("base", *names):
        values[f"{name}, tokens of an output"] = float(np.mean(lengths[name]))
    for name in names:
        spent = all_arms["facts"][name]["spent"]
        values[f"{name}, comparisons"] = spent["verifier_calls"]
        values[f"{name}, generated tokens"] = spent["generated_tokens"]
        values[f"{name}, minutes of training"] = spent["seconds"] / 60
    values["triples that go round"] = _cyclic(all_arms, texts, judge)
    return values


def _cyclic(all_arms: dict[str, Any], texts: dict[str, list[str]], judge: Any) -> float:
    contests = [
        Contest(problem, tuple(dict.fromkeys(row)))
        for problem, *row in zip(all_arms["problems"], *texts.values(), strict=True)
    ]
    return float(np.mean([cyclic_share(symmetric(wins)) for wins in judge(contests)]))


def game_seed(seed: int, run: Run) -> Values:
    """Measure R3 on a biased game of rock, paper, scissors, and on two random games."""
    rng, eta, rounds = run.rng("games"), 5.0, 2000
    wins, nash = games.biased_rock_paper_scissors(*rng.uniform(0.1, 0.5, 3))
    start = rng.dirichlet(np.full(3, 2.0))
    policies = games.iterates(partial(games.nash_step, wins, eta=eta), start, rounds)
    average = policies.mean(0)
    reward = games.bradley_terry_step(wins, start, start, beta=0.1)
    values: Values = {
        "soft DNO, average": -games.exploitability(wins, average),
        "soft DNO, last": -games.exploitability(wins, policies[-1]),
        "Bradley-Terry reward": -games.exploitability(wins, reward),
        "distance of the average from the equilibrium": float(np.abs(average - nash).max()),
        "least lead over the bound": min(games.monotone_lead(wins, p, eta) for p in policies),
    }
    for number in (1, 2):
        other = games.random_game(rng, 5)
        path = games.iterates(partial(games.nash_step, other, eta=eta), np.full(5, 0.2), rounds)
        values[f"random game {number}, average"] = -games.exploitability(other, path.mean(0))
        values[f"random game {number}, linear programme"] = -games.exploitability(
            other, games.equilibrium(other)
        )
    return values


CLAIMS = [
    Claim(
        name="R1-online",
        statement="With a judge whose preferences go round, three rounds of DNO beat offline DPO of the same "
        "comparisons and gradient steps, head to head and in wins over the base model.",
        seeds=range(5),
        measure=partial(measured, names=("DNO", "offline DPO", "iterative DPO")),
        relations=[
            Relation("head to head", "DNO against offline DPO", 0.5),
            Relation("over the base model", "DNO", "offline DPO"),
        ],
        share=False,
    ),
    Claim(
        name="R2-student-wins",
        statement="Pairs that the model's own samples win make DNO better than DNO-Restrictive and SPIN, "
        "with the same samples and gradient steps.",
        seeds=range(5),
        measure=partial(measured, names=("DNO", "DNO-Restrictive", "SPIN")),
        relations=[
            Relation("over Restrictive, head to head", "DNO against DNO-Restrictive", 0.5),
            Relation("over SPIN, head to head", "DNO against SPIN", 0.5),
            Relation("over Restrictive, in wins over the base", "DNO", "DNO-Restrictive"),
            Relation("over SPIN, in wins over the base", "DNO", "SPIN"),
        ],
        share=False,
    ),
    Claim(
        name="R3-games",
        statement="In games of rock, paper, scissors the average policy of soft DNO is harder to exploit "
        "than the best policy for a Bradley-Terry reward.",
        seeds=range(5),
        measure=game_seed,
        relations=[Relation("exploitability, negated", "soft DNO, average", "Bradley-Terry reward")],
        share=False,
    ),
]
