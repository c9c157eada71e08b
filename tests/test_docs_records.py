"""What the pages say beside their examples: messages, generated tables and plots, recipes."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

import selfstudy
from selfstudy.core.config import from_dict
from selfstudy.core.index import METHODS, find
from selfstudy.data.problem_images import image_of
from selfstudy.tasks.loading import NAMES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Files whose every message to users is explained in own-data.md.
SPEAKING = (
    "core/specs.py",
    "data/image_folder.py",
    "data/image_sets.py",
    "data/image_store.py",
    "data/readers.py",
    "models/encoders/backbones.py",
    "models/encoders/pretrained.py",
    "models/encoders/onnx.py",
    "models/encoders/onnx_plans.py",
    "models/language/loading.py",
    "models/language/model.py",
    "models/language/served.py",
    "models/language/served_requests.py",
    "signals/verifiers.py",
    "tasks/image_arrays.py",
    "tasks/image_folders.py",
    "tasks/loading.py",
    "tasks/own_data.py",
    "tasks/rows.py",
)


# Messages.


def constants(tree: ast.AST) -> list[str]:
    """Return the fixed texts; implicit joins are joined, what is filled in splits."""
    nodes = ast.walk(tree)
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def told_messages() -> list[str]:
    page = (DOCS / "own-data.md").read_text()
    return re.findall(r"^\| `(.+?)` \|", page.partition("| message |")[2], flags=re.MULTILINE)


def test_the_messages_of_the_page_exist() -> None:
    """Oracle: the fixed texts in the source, so that a message that is reworded is reworded in the page."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py")]
    source = "\0".join(text for tree in trees for text in constants(tree))
    assert len(told_messages()) > 30
    assert [message for message in told_messages() if message not in source] == []


@pytest.mark.parametrize("file", SPEAKING)
def test_every_message_about_data_and_models_is_in_the_page(file: str) -> None:
    """Oracle: every error for users that these files raise."""
    missing = []
    for node in ast.walk(ast.parse((ROOT / "src" / "selfstudy" / file).read_text())):
        call = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(call, ast.Call) and ast.unparse(call.func) in (
            "UsageError",
            "DataError",
            "MachineError",
        ):
            text = "\0".join(constants(call))
            if not any(message in text for message in told_messages()):
                missing.append(text)
    assert not missing


# Generated parts.


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date(generate: ModuleType) -> None:
    """Oracle: the generator; `python docs/generate.py` mends it."""
    written = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "generated").iterdir()}
    assert written == generate.pages(ROOT)


def result(**values: list[float]) -> dict[str, Any]:
    relation = {"name": "r", "a": "MCTS*", "b": "BoN+PRM", "mean": 0.1, "low": 0.05, "high": 0.15, "n": 2}
    return {
        "name": "R1-search",
        "statement": "S.",
        "verdict": "holds",
        "relations": [{**relation, "how": "above", "pairs": "seeds", "verdict": "holds"}],
        "share": True,
        "seeds": [0, 1],
        "values": values,
        "minutes": 3.4,
        "versions": {"torch": "2", "transformers": "5"},
        "hardware": {"cpu": "C", "cores": 2},
    }


@pytest.fixture
def records(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a recorded claim of rest-mcts and return the root of its repository."""

    def write(claim: dict[str, Any]) -> Path:
        folder = tmp_path / "claims" / "results"
        folder.mkdir(parents=True)
        (folder / "rest-mcts.json").write_text(json.dumps({"method": "rest-mcts", "claims": [claim]}))
        return tmp_path

    return write


def test_generated_parts_of_recorded_results(generate: ModuleType, records: Callable[..., Path]) -> None:
    """Oracle: means, bests and tokens of two made-up budgets, by hand."""
    root = records(
        result(
            **{
                "greedy": [0.0, 0.2],
                "greedy tokens": [97.0, 97.0],
                "MCTS*": [0.5, 0.7],
                "MCTS* tokens": [1000.0, 1200.0],
                "MCTS* value tokens": [9000.0, 9000.0],
                "BoN+PRM": [0.4, 0.4],
                "BoN+PRM tokens": [1100.0, 1100.0],
                "MCTS*, 4 branches": [0.1, 0.1],
                "MCTS*, 4 branches tokens": [200.0, 200.0],
                "BoN+PRM, 4 branches": [0.3, 0.3],
                "BoN+PRM, 4 branches tokens": [210.0, 210.0],
            }
        )
    )
    made = generate.pages(root)
    assert (
        "R1-search holds" in made["methods.md"] and "**R1-search: holds.** S." in made["claims-rest-mcts.md"]
    )
    assert "+10.0 points (+5.0 to +15.0)" in made["claims-rest-mcts.md"]
    assert (
        "| MCTS\\* | 60.0 % |" in made["claims-rest-mcts.md"] and "| 9,000 |" in made["claims-rest-mcts.md"]
    )
    assert "| 1,100 | **60.0 %** | 40.0 % |" in made["tokens.md"]
    assert "| 200 | 10.0 % | **30.0 %** |" in made["tokens.md"]
    assert "Better than MCTS\\* by the mean, at about 200 tokens: BoN+PRM." in made["tokens.md"]
    assert "One greedy solution has 10.0 % at 97 tokens." in made["tokens.md"]
    drawn = ElementTree.fromstring(made["tokens.svg"])
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == 4, "a point for each way and budget"


def test_generated_parts_of_figures_that_are_no_shares(
    generate: ModuleType, records: Callable[..., Path]
) -> None:
    """Oracle: means by hand; no percent, no points, no columns of tokens, a relation to a number."""
    claim = result(**{"loss*": [0.25, 0.75]})
    claim["share"] = False
    claim["relations"][0] |= {"a": "loss*", "b": 0.99, "how": "level"}
    text = generate.pages(records(claim))["claims-rest-mcts.md"]
    assert "| loss\\* = 0.99 | +0.1 (+0.05 to +0.15) |" in text
    assert "| measured | mean | 95 % over seeds |" in text and "| loss\\* | 0.5 |" in text
    assert "points" not in text and "tokens" not in text


def test_long_tables_of_figures_are_folded(generate: ModuleType, records: Callable[..., Path]) -> None:
    """Oracle: the number of figures; every one of them is there, and the verdict stays in the open."""
    claim = result(**{f"figure {n}": [0.5, 0.5] for n in range(30)})
    claim["relations"][0] |= {"a": "figure 0", "b": "figure 1"}
    text = generate.pages(records(claim))["claims-rest-mcts.md"]
    seen, _, folded = text.partition("<details")
    assert "**holds**" in seen and "| figure 29 |" in folded and "All 30 figures" in folded
    assert folded.count("| figure") == 30 and folded.rstrip().endswith("transformers 5.")


def test_generated_parts_without_results(generate: ModuleType, tmp_path: Path) -> None:
    """Oracle: an empty repository has no figure, and says so."""
    made = generate.pages(tmp_path)
    assert made["claims-rest-mcts.md"] == made["tokens.md"] == "Not run here.\n"
    assert made["quality.md"] == "Not measured here.\n" and "tokens.svg" not in made
    assert made["methods.md"].count("not run here") == len(METHODS)


def test_generated_word_problems(generate: ModuleType) -> None:
    """Oracle: a made-up summary, one figure of each kind."""
    one = {"accuracy": 0.25, "low": 0.1, "high": 0.5, "count": 64, "generated_tokens": 1234}
    text = generate.words_table(
        {
            "base": one,
            "trained": {**one, "accuracy": 0.5},
            "self_consistency": {**one, "samples": 5},
            "metrics": {"rounds": [{"problems": 24, "solved": 2}]},
            "hardware": {"cores": 2},
            "wall_seconds": 600.0,
        }
    )
    assert "| base | 25.0 % | 10.0 % to 50.0 % | 64 | 1,234 |" in text and "| tuned policy | 50.0 %" in text
    assert "of the base, 5 samples | 25.0 %" in text
    assert "24 problems, of which 2 were solved in search; 10 minutes on 2 cores." in text


def test_generated_ways_to_answer(generate: ModuleType) -> None:
    """Oracle: a made-up record of one task, one figure of each kind."""
    one = {"accuracy": 0.25, "low": 0.1, "high": 0.5, "count": 64, "generated_tokens": 1234.0}
    text = generate.gemma_tables(
        {
            "sums": {
                "task": "gym:chain_sum",
                "ways": {"base, greedy": one, "MCTS*, Best-of-N": {**one, "accuracy": 0.5, "samples": 7}},
                "metrics": {"rounds": [{"problems": 24, "solved": n, "examples": 2 * n} for n in (3, 5)]},
            }
        }
    )
    assert (
        text.startswith("`gym:chain_sum`\n\n")
        and "| base, greedy | 25.0 % | 10.0 % to 50.0 % | 64 | 1,234" in text
    )
    assert "| MCTS\\*, Best-of-N, 7 samples | 50.0 %" in text
    assert "search: 3 of 24, then 5 of 24; solutions trained on: 6, then 10." in text


def test_generated_quality(generate: ModuleType) -> None:
    """Oracle: a made-up record, one figure of each kind."""
    quality: dict[str, Any] = {
        "pass@1": {"12 steps": {"lines": 0.05, "answer": 0.1}},
        "greedy": {"12 steps": {"lines": 0.25, "answer": 0.3}},
    }
    assert "not measured" in generate.quality_tables(quality)
    quality["value model"] = {
        "12 steps": {"first error": 0.9712, "lines": 1234, "errors": 99, "finished": 0.9, "solved": 7}
    }
    text = generate.quality_tables(quality)
    assert (
        "| pass@1, lines right | 5.0 % |" in text and "| 12 steps | 0.971 | 1,234 | 99 | 0.900 | 7 |" in text
    )


# Recipes.


RECIPES = sorted((DOCS / "recipes").glob("*.yaml"))
REASONING = [path for path in RECIPES if find(path.stem).family == "reasoning"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes(path: Path) -> None:
    """Oracle: the method's own fields, the fields of small models, the names of the index."""
    text = path.read_text()
    recipe = yaml.safe_load(text)
    assert set(recipe) == {"method", "paper", "task", "models", "data", "fields", "distributed", "not_yet"}
    assert recipe["method"] == path.stem and f"selfstudy fit {path.stem} " in text
    method = from_dict(find(recipe["method"]).load(), recipe["fields"])
    method.validate()
    assert {"training", "generation"} <= set(recipe["distributed"]) and recipe["data"]["evaluation"]
    assert recipe["task"].partition("?")[0] in NAMES or ":" in recipe["task"]
    for model in recipe["models"].values():
        if isinstance(model, str):
            assert selfstudy.model(model).name


@pytest.mark.parametrize("path", REASONING, ids=lambda path: path.stem)
def test_recipes_for_language_models(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the task made of a few rows with the columns that it names."""
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load(path.read_text())
    Path("judging.py").write_text("def better(prompt, outputs):\n    return [0.0] * len(outputs)\n")
    coded = "tests=" in recipe["task"]
    if coded and shutil.which("bwrap") is None:
        pytest.skip("programs are judged by bubblewrap, which is not installed")
    for file in ("math-train.jsonl", "math-test.jsonl", "code-train.jsonl", "code-test.jsonl"):
        texts = {"solution": "a\nb", "hint": "b", "images": ["shown.png"]}
        texts["tests"] = "assert f(1) == 1"
        rows = [
            {"problem": f"{file} {n}", "prompt": f"{file} {n}: write f.", "answer": str(n), **texts}
            for n in range(20)
        ]
        Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    image_of(np.zeros((4, 4, 3), np.uint8)).opened().save("shown.png")
    task = selfstudy.task(recipe["task"])
    judged, blind = "judge=" in recipe["task"], "labels=false" in recipe["task"]
    assert task.verifier == ("judge" if judged else "tests" if coded else "math")
    assert len(task.test) + len(task.validation) * blind == 20
    assert f"temperature={task.temperature}" in recipe["task"]
    assert bool(task.train[0].images) == ("images=" in recipe["task"])
    solution = None if blind else task.oracle.solution(task.train[0])
    assert (solution is not None) == (judged or "solution=" in recipe["task"])
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", model) for model in recipe["models"]["policies"])
