"""Separate learning rates for attention and decoder, by the names of the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from selfstudy.core.errors import UsageError

# What decides where is looked: Z of an attention-decoder, and queries and keys as transformers names them.
# Where one weight holds queries, keys and values (c_attn, query_key_value), all of it.
ATTENTION = (
    r"(^|\.)(attention\.(whole|post|pre)|[qk]_(proj|norm)|query|key"
    r"|query_key_value|qkv_proj|c_attn|Wqkv)(\.|$)"
)
EVERYTHING = ""
GROUPS: Mapping[str, str] = {"attention": ATTENTION, "decoder": EVERYTHING}


def parameter_groups(
    module: nn.Module, rates: Mapping[str, float], patterns: Mapping[str, str] = GROUPS
) -> list[dict[str, Any]]:
    """Return groups for an optimiser, each with its own learning rate.

    A weight belongs to the first group whose pattern is found in its name.

    Args:
        module: any, also a transformers model.
        rates: of each group.
        patterns: regular expressions by group, in order.

    Returns:
        A group each with "name", "params" and "lr".

    Raises:
        UsageError: rates and patterns name other groups, a group has no weights, or a weight has no group.
    """
    if set(rates) != set(patterns):
        raise UsageError(f"Rates are given for {sorted(rates)}, and patterns for {sorted(patterns)}.")
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in patterns}
    for name, weight in module.named_parameters():
        if not weight.requires_grad:
            continue
        group = next((group for group, pattern in patterns.items() if re.search(pattern, name)), None)
        if group is None:
            raise UsageError(f"The weight {name!r} matches none of the patterns {dict(patterns)}.")
        groups[group].append(weight)
    empty = [name for name, weights in groups.items() if not weights]
    if empty:
        raise UsageError(
            f"No weight belongs to the group {empty[0]!r}: its pattern {patterns[empty[0]]!r} is in no name "
            f"that is left. Names are such as {next(iter(dict(module.named_parameters())), 'none')!r}."
        )
    return [{"name": name, "params": weights, "lr": rates[name]} for name, weights in groups.items()]
