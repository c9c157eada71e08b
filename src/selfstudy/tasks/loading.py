"""Tasks by specification: `name?field=value&field=value`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from selfstudy.core.errors import UsageError, nearest
from selfstudy.core.specs import make

# Name -> "module:function", and prefix -> that and first arguments; what follows a prefix is the next
# argument. The functions' keyword-only parameters are the fields.
NAMES = {
    "chain100": "selfstudy.tasks.chain:chain100",
    "list-programs": "selfstudy.tasks.list_programs:list_programs",
    "humaneval": "selfstudy.tasks.code:humaneval",
    "mbpp": "selfstudy.tasks.code:mbpp",
    "gsm8k": "selfstudy.tasks.word_problems:gsm8k",
    "math500": "selfstudy.tasks.word_problems:math500",
    "digit-sums": "selfstudy.tasks.digit_sums:digit_sums",
    "mawps": "selfstudy.tasks.word_problems:mawps",
    "svamp": "selfstudy.tasks.word_problems:svamp",
    "in-context-regression": "selfstudy.tasks.regression:in_context_regression",
    "projected-images": "selfstudy.tasks.projected_images:projected_images",
    "cooccurrence": "selfstudy.tasks.cooccurrence:cooccurrence",
    "next-words": "selfstudy.tasks.next_words:next_words",
    "made-domains": "selfstudy.tasks.text_streams:made",
    "domains": "selfstudy.tasks.text_streams:known",
    "arrays": "selfstudy.tasks.arrays:arrays",
    "digits": "selfstudy.tasks.images:digits",
    "fashion-mnist": "selfstudy.tasks.images:fashion_mnist",
    "cifar10": "selfstudy.tasks.images:cifar10",
    "adult": "selfstudy.tasks.tables:adult",
    "heloc": "selfstudy.tasks.tables:heloc",
    "breast-cancer": "selfstudy.tasks.tables:breast_cancer",
    "wine": "selfstudy.tasks.tables:wine",
    "diabetes": "selfstudy.tasks.tables:diabetes",
    "made-tags": "selfstudy.tasks.tagging:made_tags",
    "ewt": "selfstudy.tasks.tagging:ewt",
    "blocks": "selfstudy.tasks.graphs:blocks",
    "cora": "selfstudy.tasks.graphs:cora",
    "citeseer": "selfstudy.tasks.graphs:citeseer",
    "rotated-digits": "selfstudy.tasks.label_metrics:rotated_digits",
}
PREFIXES: dict[str, tuple[str, ...]] = {
    "backtracking-countdown-": ("selfstudy.tasks.backtracking_countdown:backtracking_countdown",),
    "countdown-": ("selfstudy.tasks.countdown:countdown",),
    "gym:": ("selfstudy.tasks.gym:gym",),
    "mathematics:": ("selfstudy.tasks.mathematics:mathematics",),
    "stream:": ("selfstudy.tasks.text_streams:own",),
    "images:": ("selfstudy.tasks.image_folders:folder",),
    "pool:images:": ("selfstudy.tasks.own_pools:images",),
    "pool:vectors:": ("selfstudy.tasks.own_pools:features",),
    "pool:": ("selfstudy.tasks.named_pools:pool",),
    "noisy:": ("selfstudy.tasks.noisy_pools:noisy",),
    "graph:": ("selfstudy.tasks.graphs:graph",),
    "conllu:": ("selfstudy.tasks.tagging:sentences", "conllu"),
    "jsonl:": ("selfstudy.tasks.own_data:table", "jsonl"),
    "csv:": ("selfstudy.tasks.own_data:table", "csv"),
    "parquet:": ("selfstudy.tasks.own_data:table", "parquet"),
    "hf:": ("selfstudy.tasks.own_data:table", "hf"),
}
# A file of rows is a pool of texts where a column of texts is named, a table of examples where one of labels
# is, else a list of problems.
ROWS = ("jsonl", "csv", "parquet")
TEXTS = {f"{kind}:": ("selfstudy.tasks.text_files:text_pool", kind) for kind in ROWS}
# A pool whose labels have distances is one with a metric.
GRADED = {
    prefix: ("selfstudy.tasks.label_metrics:graded", prefix)
    for prefix in ("pool:images:", "pool:vectors:", "pool:", *TEXTS)
}
# A list of problems with a judge of outputs in the place of right answers.
JUDGED = {f"{kind}:": ("selfstudy.tasks.preferences:prompts", kind) for kind in ROWS}
# A list of problems whose answers are programs, judged by tests.
PROGRAMS = {f"{kind}:": ("selfstudy.tasks.code:programs", kind) for kind in ROWS}
# Sentences whose words have tags.
TAGGED = {f"{kind}:": ("selfstudy.tasks.tagging:sentences", kind) for kind in ("jsonl", "parquet")}
TABLES = {f"{kind}:": ("selfstudy.tasks.tables:table", kind) for kind in ROWS}


def task(spec: str) -> Any:
    """Return the task that `spec` names.

    >>> task("chain100?steps=3&train=5&validation=0&test=5").max_steps
    3

    Args:
        spec: `chain100?steps=8&train=400`, `countdown-4`, `gym:chain_sum?size=500`, `gsm8k`,
            `jsonl:problems.jsonl?prompt=question&answer=answer&verifier=math`, ... Values may be
            percent-encoded.

    Raises:
        UsageError: an unknown name or field, or a value of the wrong type.
        DataError: data that cannot be used.
    """
    name, _, query = spec.partition("?")
    arguments: list[str] = []
    if name in NAMES:
        target = NAMES[name]
    else:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            known = [*NAMES, *(f"{prefix}..." for prefix in PREFIXES)]
            raise UsageError(f"Unknown task {name!r}. {_nearest_task(name, known)}")
        named = {field.partition("=")[0] for field in query.split("&")}
        kinds = TEXTS if "text" in named else TABLES if "label" in named else PREFIXES
        if "tests" in named:
            kinds = PROGRAMS
        if "judge" in named:
            kinds = JUDGED
        if "tags" in named:
            kinds = {**PREFIXES, **TAGGED}
        if "metric" in named:
            kinds = GRADED
        target, *first = kinds.get(prefix) or PREFIXES[prefix]
        arguments = [*first, unquote(name[len(prefix) :])]
    return make("task", name, query, target, *arguments)


def _nearest_task(name: str, known: list[str]) -> str:
    head = re.split(r"[:?]", name)[0]
    hint = nearest(head, [known_name.rstrip(".:-") for known_name in known])
    return hint if hint.startswith("Did") else nearest("", known)
