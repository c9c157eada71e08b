"""Search trees for the report: nodes as plain records, a few of them out of a run's stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfstudy.core.files import read_json, write_json
from selfstudy.search.tree import Forest

TREES = "trees.json"
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


def write_trees(directory: Path, task: Any) -> None:
    """Write a few trees of the run's last search stage to trees.json, solved ones first; none if it has none.

    Args:
        directory: the run's.
        task: its training problems' prompts become the trees' titles.
    """
    stages = sorted(
        directory.glob("stages/search-[0-9]*/stage.json"), key=lambda path: int(path.parent.name[7:])
    )
    if not stages:
        return
    prompts = {problem.id: problem.prompt for problem in task.train}
    records = read_json(stages[-1]).get("value", [])
    solved = [record for record in records if any(record["correct"])][:SOLVED]
    unsolved = [record for record in records if not any(record["correct"])][:UNSOLVED]
    trees = [
        {
            "title": prompts.get(record["problem"], record["problem"]),
            "nodes": forest_nodes(Forest.from_json(record["tree"]), 0, record["correct"]),
        }
        for record in [*solved, *unsolved]
    ]
    write_json(directory / TREES, trees)
