"""Search trees for the report: nodes as plain records, a few of them out of a run's stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfstudy.core.files import read_json
from selfstudy.search.tree import Forest

SOLVED, UNSOLVED = 5, 2  # trees shown of each kind


def forest_nodes(forest: Forest, tree: int, correct: Sequence[bool]) -> list[dict[str, Any]]:
    """Return the nodes of one tree as the report draws them.

    Args:
        forest: searched trees.
        tree: which of them.
        correct: by node, whether its solution is right; looked at for ended leaves only.
    """
    leaves = set(forest.leaves(tree).tolist())
    nodes = []
    for node in range(int(forest.size[tree])):
        ended = bool(forest.ended[tree, node])
        nodes.append(
            {
                "id": node,
                "parent": int(forest.parent[tree, node]) if node else None,
                "text": str(forest.actions[tree][node]) if node else "",
                "value": round(float(forest.value[tree, node]), 4),
                "prior": round(float(forest.prior[tree, node]), 4),
                "visits": int(forest.visits[tree, node]),
                "ended": ended,
                "correct": bool(correct[node]) if ended and node in leaves else None,
            }
        )
    return nodes


def trees_of_run(directory: Path, prompts: dict[str, str]) -> list[dict[str, Any]]:
    """Return a few trees of the run's last search stage, solved ones first; nothing if it has none.

    Args:
        directory: the run's.
        prompts: by problem id, the question; it becomes the tree's title.
    """
    stages = sorted(
        directory.glob("stages/search-[0-9]*/stage.json"), key=lambda path: int(path.parent.name[7:])
    )
    if not stages:
        return []
    records = read_json(stages[-1]).get("value", [])
    solved = [record for record in records if any(record["correct"])][:SOLVED]
    unsolved = [record for record in records if not any(record["correct"])][:UNSOLVED]
    return [
        {
            "title": prompts.get(record["problem"], record["problem"]),
            "nodes": forest_nodes(Forest.from_json(record["tree"]), 0, record["correct"]),
        }
        for record in [*solved, *unsolved]
    ]
