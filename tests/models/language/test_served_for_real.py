"""A real server: `transformers serve` with the embedded model, in a process of its own, on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import selfstudy
from selfstudy.core.budget import Meter
from selfstudy.core.errors import UsageError
from selfstudy.models.language.backends import open_sampler
from selfstudy.models.language.loading import POLICY, WEIGHTS
from selfstudy.models.language.sampling import Request
from selfstudy.models.language.served import ServedModel
from selfstudy.search.mcts import TreeSearch
from selfstudy.search.reasoning import ConstantValue
from selfstudy.search.solvers import greedy_solver, tree_solver, voting_solver

pytest.importorskip("openai", reason="transformers serve needs it; it is in the extra test")

TASK = "chain100?steps=3&train=0&validation=0&test=6"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as this server needs it."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(WEIGHTS / POLICY, folder)
    # Its stop strings try the tokenizer out on these letters; the model never writes them.
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({letter: len(vocabulary) + i for i, letter in enumerate("abcdef")})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    # It draws only where the model says so, whatever temperature is asked for.
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "do_sample": True}))
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The address of the server, as it writes it when it is ready; the port is a free one."""
    program = Path(sys.executable).with_name("transformers")
    cache = folder.parent / "cache"
    (cache / "hub").mkdir(parents=True)
    environment = os.environ | {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [program, "serve", folder, "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    server = subprocess.Popen(
        [*map(str, command), "--dtype", "float32"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout
    said: list[str] = []
    try:
        while not (found := re.search(r"running on (http://\S+)", "".join(said[-1:]))):
            said.append(server.stdout.readline())
            assert said[-1], "the server did not start:\n" + "".join(said)
        reading = threading.Thread(target=lambda: said.extend(server.stdout or ()))
        reading.start()  # else the server stops when the pipe is full
        yield found[1] + "/v1"
    finally:
        server.terminate()
        server.wait(30)
    reading.join(30)
    server.stdout.close()


def model_at(url: str, folder: Path, fields: str = "") -> ServedModel:
    return selfstudy.model(f"openai:{url}?model={folder}&{fields}")


@pytest.mark.parametrize("fields", ["", "chat=true"])
def test_greedy_answers_are_those_of_this_process(url: str, folder: Path, fields: str) -> None:
    """Oracle: the same weights here: the same solutions, and as many tokens."""
    task = selfstudy.task(TASK)
    meter, here = Meter(), Meter()
    model = model_at(url, folder, f"{fields}&input_price=10&output_price=20")
    solutions = greedy_solver(model, task)(task.test, meter)
    assert solutions == greedy_solver(selfstudy.model("tiny-lm"), task)(task.test, here)
    spent = meter.snapshot()
    assert spent["generated_tokens"] == here.snapshot()["generated_tokens"] == 6 * task.solution_tokens
    assert spent["prompt_tokens"] == sum(len(problem.prompt) for problem in task.test)
    assert spent["cost"] == pytest.approx(
        (spent["prompt_tokens"] * 10 + spent["generated_tokens"] * 20) / 1e6
    )
    assert model.sent == {"requests": 6}


def test_a_search_step_by_step_is_that_of_this_process(url: str, folder: Path) -> None:
    """Oracle: the same weights here; at temperature 0 each step of a path is the likeliest."""
    task = selfstudy.task(TASK)
    settings = TreeSearch(iterations=4, branch=1)
    found = [
        tree_solver(policy, task, ConstantValue(), settings, seed=0, temperature=0.0)(task.test, Meter())
        for policy in (model_at(url, folder), selfstudy.model("tiny-lm"))
    ]
    assert found[0] == found[1] and min(map(len, found[0])) == 3


def test_seeds_and_stop_strings(url: str, folder: Path) -> None:
    """Oracle: asked one after the other, the same seed draws the same, twelve seeds not all the same."""
    sampler = open_sampler(model_at(url, folder, "concurrency=1"))
    requests = [
        Request(prompt="47+8-3*7:", key=key, max_tokens=16, temperature=3.0, stop=("\n",))
        for key in range(12)
    ]
    drawn = sampler.sample(requests)
    assert drawn == sampler.sample(requests) and len({completion.text for completion in drawn}) > 1
    for completion in drawn:
        assert "\n" not in completion.text and completion.finish in ("stop", "length")
        assert len(completion.tokens) >= len(completion.text) + (completion.finish == "stop")


def test_votes(url: str, folder: Path) -> None:
    """Oracle: at temperature 0 all samples are the greedy solution of this process, and so is their vote."""
    task = selfstudy.task(TASK)
    vote = voting_solver(model_at(url, folder), task, samples=2, vote="majority", seed=0, temperature=0.0)
    here = greedy_solver(selfstudy.model("tiny-lm"), task)
    assert vote(task.test, Meter()) == here(task.test, Meter())


def test_another_model_is_refused(url: str, folder: Path) -> None:
    """Oracle: what this server says of a name that it does not serve."""
    with pytest.raises(UsageError, match=r"refused a request with 400: .*Server is pinned to"):
        open_sampler(selfstudy.model(f"openai:{url}?model=other")).sample(
            [Request(prompt="1", key=0, max_tokens=1)]
        )
