"""Toy domains of the search tests: chains of digits whose values and ends are looked up in a table."""

from __future__ import annotations

import numpy as np

from selfstudy.core.random import stream_key, uniforms
from selfstudy.search.tree import Forest
from selfstudy.signals.tree_values import step_value


class Table:
    """Chains of `length` digits; value, early end and dead ends of a state are functions of its hash.

    `levels` rounds values to so many steps, which makes ties; `calls` counts the questions asked.
    """

    def __init__(self, length=3, digits=3, levels=None, early=0.1, dead=0.1, salt=0):
        self.length, self.digits, self.levels = length, digits, levels
        self.early, self.dead, self.salt = early, dead, salt
        self.calls = {"propose": [], "values": [], "ended": []}

    def chance(self, state, what):
        return stream_key(self.salt, what, *state[0:1], *state[1]) / 2**64

    def propose(self, states, n, keys):
        self.calls["propose"].append(list(states))
        drawn = uniforms(np.asarray(keys)[:, None], np.arange(n))
        return [
            []
            if len(state[1]) >= self.length or self.chance(state, "dead") < self.dead
            else [int(x * self.digits) for x in row]
            for state, row in zip(states, drawn, strict=True)
        ]

    def values(self, states):
        self.calls["values"].append(list(states))
        values = np.array([self.chance(state, "value") for state in states])
        return values if self.levels is None else np.round(values * self.levels) / self.levels

    def ended(self, states):
        self.calls["ended"].append(list(states))
        return np.array([len(s[1]) == self.length or self.chance(s, "end") < self.early for s in states])


class Hidden:
    """Problem q asks for the digits of `target(q)`; each is drawn right with probability `skill`.

    Values are the exact ones of the paper's definition.
    """

    def __init__(self, length=4, digits=4, skill=0.4):
        self.length, self.digits, self.skill = length, digits, skill

    def target(self, problem):
        return tuple(stream_key("target", problem, i) % self.digits for i in range(self.length))

    def propose(self, states, n, keys):
        drawn = uniforms(np.asarray(keys)[:, None], np.arange(n))
        rows = []
        for (problem, path), row in zip(states, drawn, strict=True):
            right = self.target(problem)[len(path)] if len(path) < self.length else None
            wrong = [digit for digit in range(self.digits) if digit != right]
            rows.append(
                []
                if right is None
                else [
                    right if x < self.skill else wrong[int((x - self.skill) / (1 - self.skill) * len(wrong))]
                    for x in row
                ]
            )
        return rows

    def values(self, states):
        return np.array([self.value(*state) for state in states])

    def value(self, problem, path):
        target, value, distance = self.target(problem), 0.0, self.length
        for k in range(1, len(path) + 1):
            good = path[:k] == target[:k]
            # A wrong step has the distance of its last good ancestor: one more than what is left there.
            value = step_value(value, distance if good else distance + 1, good)
            distance -= good
        return value

    def ended(self, states):
        return np.array([len(path) == self.length for _, path in states])


def keys(trees, salt=0):
    return np.array([stream_key("tree", salt, t) for t in range(trees)], dtype=np.uint64)


def make_forest(parents, *, values=None, visits=None, ended=(), branch=None, end_gate=0.9):
    """One tree from the parents of its nodes; the action of each node is its own number."""
    size = len(parents)
    counts = [parents.count(node) for node in range(size)]
    return Forest.from_json(
        {
            "branch": branch or max(1, *counts),
            "end_gate": end_gate,
            "trees": [
                {
                    "problem": 0,
                    "answer": -1,
                    "actions": [None, *range(1, size)],
                    "parent": parents,
                    "visits": visits or [0] * size,
                    "prior": values or [0.0] * size,
                    "value": values or [0.0] * size,
                    "expanded": [node for node in range(size) if counts[node]],
                    "ended": list(ended),
                }
            ],
        }
    )
