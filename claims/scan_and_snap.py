"""What scan and snap is worth: that attention does what the paper says, on drawn sequences and on real text.

Settings are the paper's: 10 common tokens and 10 of each class's own, sequences of 128 tokens, batches of
128, 100 steps of SGD with momentum 0.9, from zero. The theory is about plain gradient descent, so each
statement is also tested without momentum, in 1,000 steps.

Text: WikiText-2, the 2,000 most frequent words, windows of 35, batches of 20, width 64, and the residual,
which is the last word itself beside what it attends to. The training file is not among the data here: 90 % of
the validation file trains, its last tenth chose the rates, and losses and entropies are those of the test
file. Four pairs of rates show the ratio both ways, by the rate of attention at one rate of the decoder and
the other way round. Common and distinct words are judged where attention moved most, at equal rates; the
others are listed too. The baseline is a standard layer of transformer, with Adam.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from selfstudy.core.run import Run
from selfstudy.evaluation.attention import (
    attention_entropy,
    class_logits,
    rank_advantage,
    uniform_entropy,
)
from selfstudy.evaluation.attention_trace import Dynamics
from selfstudy.evaluation.claims import Claim, Relation, Values
from selfstudy.methods.mechanisms.scan_and_snap import ScanAndSnap
from selfstudy.models.attention_decoder import AttentionDecoder
from selfstudy.models.language.attention import record_attention
from selfstudy.tasks.cooccurrence import CooccurrenceTask, cooccurrence
from selfstudy.tasks.next_words import NextWordsTask, next_words

DRAWN = {"": ScanAndSnap(), ", no momentum": ScanAndSnap(momentum=0.0, steps=1000)}
RATES = (0.5, 1.0, 2.0)  # of attention
RATIOS = (1, 2, 5, 10)  # of the decoder's rate to it
TEXT = ScanAndSnap(steps=1000, batch=20, clip=0.5, decay=0.83, records=20)
PAIRS = {"1 to 1": (1.0, 1.0), "1 to 0.3": (0.3, 1.0), "1 to 0.1": (0.1, 1.0), "0.3 to 0.1": (0.1, 0.3)}
WINDOWS = 500  # of the test file
TRANSFORMER = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}


def trained(task: CooccurrenceTask, settings: ScanAndSnap, name: str, run: Run) -> Dynamics:
    model = AttentionDecoder(vocabulary=task.vocabulary)
    return run.stage(name, lambda: settings.train_dynamics(task, model, run))


def scan_seed(seed: int, run: Run) -> Values:
    """Where attention ends with two last tokens and one next token each."""
    task, values = cooccurrence(last=2, next=1), {}
    for name, settings in DRAWN.items():
        figures = trained(task, settings, f"train{name}", run).figures(task.table, task.context, 1)
        start, end = figures["common mass at the start"], figures["common mass"]
        values |= {
            f"fall of the common mass{name}": start - end,
            f"order correlation{name}": figures["order correlation"],
            f"order correlation of the logits{name}": figures["order correlation of the logits"],
            f"entropy at the start{name}": figures["entropy at the start"],
            f"entropy{name}": figures["entropy"],
        }
    return values


def snap_seed(seed: int, run: Run) -> Values:
    """When attention stops changing there, and how much is left to others."""
    task, values = cooccurrence(last=2, next=1), {}
    for name, settings in DRAWN.items():
        found = trained(task, settings, f"train{name}", run)
        figures = found.figures(task.table, task.context, 1)
        masses = found.trace.series("common_mass")
        half = len(masses) // 2
        values |= {
            f"a tenth of the change in the first half{name}": abs(masses[half] - masses[0]) / 10,
            f"change in the second half{name}": abs(masses[-1] - masses[half]),
            f"attention on all but the first token{name}": 1 - figures["largest share of one token"],
            f"freeze step{name}": figures["freeze step"],
        }
    return values


def control_seed(seed: int, run: Run) -> Values:
    """Final entropy with three last tokens and two next tokens each, at all rates."""
    task, values = cooccurrence(last=3, next=2), {}
    for momentum, settings in DRAWN.items():
        # Without momentum only the ratios that are judged: a training takes ten times as long.
        for ratio in RATIOS if not momentum else (RATIOS[0], RATIOS[-1]):
            for rate in RATES:
                at = f"rate {rate:g}, ratio {ratio}{momentum}"
                chosen = replace(settings, attention_rate=rate, decoder_rate=ratio * rate, records=2)
                values[f"entropy at {at}"] = trained(task, chosen, at, run).trace.rows[-1]["entropy"]
    return values


def text_seed(seed: int, run: Run) -> Values:
    """Entropy of attention on the test file by rates, and where distinct and common words rank."""
    task, values = next_words(text="wikitext2", items=WINDOWS), {}
    tokens = task.windows_of("test", WINDOWS).tokens
    uniform = float(uniform_entropy(task.window, task.window - 1).mean())
    for name, (attention_rate, decoder_rate) in PAIRS.items():
        chosen = replace(TEXT, attention_rate=attention_rate, decoder_rate=decoder_rate)
        model = AttentionDecoder(vocabulary=task.vocabulary, width=64, residual=True, seed=seed)
        found = run.stage(name, lambda: chosen.train_dynamics(task, model, run))  # noqa: B023
        with torch.no_grad():
            left = float(attention_entropy(found.model.weigh(tokens, task.window - 1)).mean())
        masses = found.trace.series("common_mass")
        values[f"fall of entropy at {name}"] = uniform - left
        values[f"fall of the common mass at {name}"] = masses[0] - masses[-1]
        values[f"rank of distinct above common words at {name}"] = float(
            rank_advantage(class_logits(found.model, task.table), task.table).mean()
        )
        values[f"cross-entropy at {name}"] = float(np.mean(task.evaluate(found.model).values))
    return values | run.stage("transformer", lambda: transformer(seed, task, run))


def transformer(seed: int, task: NextWordsTask, run: Run) -> dict[str, float]:
    """Train a standard layer of transformer on the same windows; its loss, and how its entropy falls."""
    config = LlamaConfig(
        vocab_size=task.vocabulary, max_position_embeddings=64, tie_word_embeddings=True, **TRANSFORMER
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.0)
    for step in run.steps(TEXT.steps, state={"model": module, "optimizer": optimizer}, desc="train"):
        tokens, targets = task.batch(TEXT.batch, run.rng("batch", step))
        logits = module(input_ids=tokens, use_cache=False).logits[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), TEXT.clip)
        optimizer.step()
    tokens, targets = task.windows_of("test", WINDOWS)
    with torch.no_grad():
        logits = torch.cat([module(input_ids=part).logits[:, 1:] for part in tokens.split(50)])
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    entropies = attention_entropy(record_attention(module, tokens[:100]))[..., 1:]
    uniform = uniform_entropy(task.window, task.window - 1, include_query=True).mean()
    return {
        "cross-entropy of a transformer layer": float(loss),
        "fall of entropy in a transformer layer": float(uniform - entropies.mean()),
    }


CLAIMS = [
    Claim(
        name="scan",
        statement="The mass on common tokens falls by at least 0.15, and distinct tokens end in the order of "
        "their co-occurrence, with momentum and without.",
        seeds=range(10),
        measure=scan_seed,
        share=False,
        relations=[
            relation
            for name in DRAWN
            for relation in (
                Relation(f"scan{name}", f"fall of the common mass{name}", 0.15),
                Relation(f"order{name}", f"order correlation{name}", 0.95),
                Relation(f"order of the logits{name}", f"order correlation of the logits{name}", 0.95),
            )
        ],
    ),
    Claim(
        name="snap",
        statement="In the second half of the training the mass on common tokens changes by at most a tenth "
        "of what it changed before, and no token has half of the attention, with momentum and without.",
        seeds=range(10),
        measure=snap_seed,
        share=False,
        relations=[
            relation
            for name in DRAWN
            for relation in (
                Relation(
                    f"snap{name}",
                    f"a tenth of the change in the first half{name}",
                    f"change in the second half{name}",
                ),
                Relation(f"no winner takes all{name}", f"attention on all but the first token{name}", 0.5),
            )
        ],
    ),
    Claim(
        name="control",
        statement="Attention ends less sparse at a ratio of rates of 10 than at 1, and more sparse at higher "
        "rates of attention, with momentum and without.",
        seeds=range(10),
        measure=control_seed,
        share=False,
        relations=[
            relation
            for name in DRAWN
            for relation in (
                *(
                    Relation(
                        f"ratio at rate {rate:g}{name}",
                        f"entropy at rate {rate:g}, ratio {RATIOS[-1]}{name}",
                        f"entropy at rate {rate:g}, ratio 1{name}",
                    )
                    for rate in RATES
                ),
                *(
                    Relation(
                        f"rate {low:g} against {high:g}{name}",
                        f"entropy at rate {low:g}, ratio 1{name}",
                        f"entropy at rate {high:g}, ratio 1{name}",
                    )
                    for low, high in itertools.pairwise(RATES)
                ),
            )
        ],
    ),
    Claim(
        name="text",
        statement="On WikiText-2 the entropy of attention falls from that of uniform attention, by less at "
        "a higher ratio of the decoder's rate to that of attention; at equal rates common words lose "
        "attention, and distinct ones rank above them.",
        seeds=range(5),
        measure=text_seed,
        share=False,
        relations=[
            Relation("falls from uniform", "fall of entropy at 1 to 0.1", 0.0),
            Relation(
                "ratio 10 against 1, by attention", "fall of entropy at 1 to 1", "fall of entropy at 1 to 0.1"
            ),
            Relation(
                "ratio 10 against 3, by attention",
                "fall of entropy at 1 to 0.3",
                "fall of entropy at 1 to 0.1",
            ),
            Relation(
                "ratio 10 against 3, by decoder",
                "fall of entropy at 0.3 to 0.1",
                "fall of entropy at 1 to 0.1",
            ),
            Relation("common words lose", "fall of the common mass at 1 to 1", 0.0),
            Relation("distinct above common", "rank of distinct above common words at 1 to 1", 0.0),
        ],
    ),
]
