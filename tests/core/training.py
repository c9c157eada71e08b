"""A small training program, and sessions of it that are killed: one process forks them all.

Called as `python training.py DIRECTORY`; prints JSON. Not a test itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from selfstudy.app import cli
from selfstudy.core.run import Run

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
KILLS = 16


class Weights:
    """A stage result."""

    def __init__(self, tensors):
        self.tensors = tensors

    def save(self, folder):
        (folder / "weights.json").write_text(json.dumps([t.tolist() for t in self.tensors]))

    @classmethod
    def load(cls, folder):
        return cls([torch.tensor(rows) for rows in json.loads((folder / "weights.json").read_text())])


def train(run, tensors=None, hook=lambda step: None):
    """Nine steps of AdamW on a network of two layers; returns its weights."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    if tensors:
        with torch.no_grad():
            for weight, value in zip(module.parameters(), tensors, strict=True):
                weight.copy_(value)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05)
    state = {"module": module, "optimizer": optimizer}
    for step in run.steps(9, state=state, desc="fit", cost={"samples": 8, "flops": 0.1}):
        hook(step)
        x = torch.from_numpy(run.rng("batch", step).standard_normal((8, 4))).float()
        loss = (module(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.log(step=step, loss=float(loss.detach()))
    return [weight.detach().clone() for weight in module.parameters()]


def program(directory, hook=lambda step: None):
    """A map in a stage, training in a stage, training outside; with lines everywhere."""

    def answer(item):
        run.meter.charge(verifier_calls=1)
        run.log(item=item)
        return (item, float(run.rng("answer", item).random()))

    with Run(directory, {"method": "toy"}, seed=3, checkpoint_seconds=1e9, checkpoint_steps=2) as run:
        run.log(at="start", none=float("nan"))
        answers = run.stage("search", lambda: run.map("answers", range(4), answer))
        run.log(at="searched", total=sum(draw for _, draw in answers))
        first = run.stage("policy", lambda: Weights(train(run)))
        run.log(at="trained")
        final = train(run, first.tensors, hook)
        run.log(at="end")
        spent = run.meter.snapshot()
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in final)).hexdigest()
    return {"weights": digest, "answers": answers, "spent": {**spent, "seconds": 0}}


def session(directory, prepare=lambda: None, work=program):
    """Fork, prepare, work; return (exit status or minus the signal, what was returned)."""
    result = directory.with_suffix(".result")
    result.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            prepare()
            value = work(directory)
            result.write_text(json.dumps(value))
            os._exit(value if isinstance(value, int) else 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(99)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, json.loads(result.read_text()) if result.exists() else None


def outcome(directory, result):
    """What must not depend on interruptions."""
    log = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    return {**result, "log": [json.dumps({**line, "seconds": 0}) for line in log], "files": files}


def kill_at(event, directory, counter=None):
    """Let this process be killed just before its `event`-th operation on files in `directory`."""
    seen, inside = [0], str(directory)

    def hook(name, arguments):
        if name in EVENTS and inside in str(arguments[0]):
            seen[0] += 1
            if counter:
                Path(counter).write_text(str(seen[0]))
            if seen[0] == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kills(place):
    """Kill at moments spread over all file operations, and by a timer; resume each until it is through."""
    counter = str(place / "counter")
    started = time.monotonic()
    code, result = session(place / "whole", lambda: kill_at(-1, place / "whole", counter))
    assert code == 0
    whole_seconds = time.monotonic() - started
    count, rng = int((place / "counter").read_text()), random.Random(0)
    runs = []
    moments = [rng.randrange(i * count // KILLS, (i + 1) * count // KILLS) + 1 for i in range(KILLS)]
    for i, moment in enumerate(moments):
        directory, codes = place / f"run-{i}", []
        code, _ = session(directory, lambda m=moment, d=directory: kill_at(m, d))
        codes.append(code)
        if i % 2:  # the resumed session is killed as well
            again = rng.randrange(1, count - moment + 10)
            codes.append(session(directory, lambda m=again, d=directory: kill_at(m, d))[0])
        code, got = session(directory)
        codes.append(code)
        runs.append([codes, outcome(directory, got) if got else None])
    for i in range(3):  # at any instruction: the kernel ends the process when the timer rings
        directory, codes = place / f"timer-{i}", []
        for attempt in range(30):
            seconds = rng.uniform(0.02, 0.4) * whole_seconds * (1 + attempt / 4)
            code, got = session(directory, lambda s=seconds: signal.setitimer(signal.ITIMER_REAL, s))
            codes.append(code)
            if code == 0:
                break
        runs.append([codes, outcome(directory, got) if got else None])
    return {"whole": outcome(place / "whole", result), "runs": runs, "events": count}


def through_main(directory, hook):
    """Return the command line's exit code for the program."""

    def command(_):
        program(directory, hook)
        return 0

    cli._command = command
    return cli.main([])


def signals(place):
    """Send signals in step 4 of the last training, then resume."""
    found = {}
    for name, numbers in {
        "SIGTERM": [signal.SIGTERM],
        "SIGINT": [signal.SIGINT],
        "twice": [signal.SIGINT, signal.SIGINT],
    }.items():
        directory, reached = place / name, place / f"{name}-reached"

        def hook(step, numbers=numbers, reached=reached):
            if step == 4:
                for number in numbers:
                    os.kill(os.getpid(), number)
                reached.touch()

        code, _ = session(directory, work=lambda d, hook=hook: through_main(d, hook))
        saved = sorted(path.name for path in (directory / "partial" / "fit").iterdir())
        steps = []
        code_after, got = session(
            directory, work=lambda d, steps=steps: {**program(d, steps.append), "steps": steps}
        )
        found[name] = {
            "code": code,
            "reached": reached.exists(),
            "saved": saved,
            "after": code_after,
            "steps": got.pop("steps"),
            "outcome": outcome(directory, got),
        }
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)  # no threads, so that forking is safe
    os.fsync = lambda _: None  # for power cuts; what a killed process wrote is there without it
    place = Path(sys.argv[1])
    program(place / "warm")  # what torch imports at its first step is then there for all
    print(json.dumps({"kills": kills(place), "signals": signals(place)}))
