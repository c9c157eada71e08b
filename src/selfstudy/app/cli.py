"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from selfstudy import __version__
from selfstudy.core.errors import SelfstudyError, UsageError, nearest
from selfstudy.core.group import require_alone, silent

EXAMPLES = """\
examples:
  selfstudy demo                                        the main job on the embedded default, in minutes
  selfstudy show rest-mcts                              what a method does, and its fields
  selfstudy fit rest-mcts --task chain100 --out runs/first --search.branch 4
  selfstudy fit rest-em --task jsonl:mine.jsonl --model path/to/model --budget tokens=2e6 --dry-run
  selfstudy evaluate --task chain100 --model runs/first/model --solver mcts
"""
BROKEN_PIPE = 141  # 128 + SIGPIPE, as the shell reports it
Rest = list[str]


class Parser(argparse.ArgumentParser):
    """Reports mistakes as `UsageError`, one paragraph like every other."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing usage and exiting."""
        raise UsageError(f"{message[0].upper()}{message[1:]}. See: {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `selfstudy.core.errors`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    warnings.showwarning = _note
    try:
        code = _command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes stdout again at exit: give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, Exception) as error:
        if traceback:
            import traceback as trace

            trace.print_exc()
        elif isinstance(error, KeyboardInterrupt):
            sys.stderr.write("selfstudy: interrupted\n")
        elif isinstance(error, SelfstudyError) and not silent(error):
            sys.stderr.write(f"selfstudy: {' '.join(str(error).split())}\n")
        elif not isinstance(error, SelfstudyError):
            said = " ".join(f"{type(error).__name__}: {error}".split())
            sys.stderr.write(
                f"selfstudy: something unexpected went wrong ({said}). Run with --traceback to see where.\n"
            )
        return 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def _note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: Any = None,
) -> None:
    """Say a warning as one line, without the line of code that it comes from."""
    sys.stderr.write(f"note: {' '.join(str(message).split())}\n")


def _command(arguments: list[str]) -> int:
    for name in ("TRANSFORMERS_VERBOSITY", "HF_DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser, commands = _parser()
    if not arguments:
        parser.print_help()
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in commands:
        raise UsageError(f"Unknown command {arguments[0]!r}. {nearest(arguments[0], commands)}")
    known, rest = parser.parse_known_args(arguments)
    plots = known.command == "show" and known.plot is not None
    takes_fields = plots or known.command in ("fit", "compare", "evaluate")
    if rest and not takes_fields:
        raise UsageError(f"Unknown argument {rest[0]!r}. See: selfstudy {known.command} --help")
    if known.command not in ("fit", "resume"):
        require_alone(f"`selfstudy {known.command}`")
    work: Callable[[argparse.Namespace, Rest], int | None] = known.work
    return work(known, rest) or 0


def _parser() -> tuple[Parser, list[str]]:
    parser = Parser(
        prog="selfstudy",
        description="Trains models from their own signals, and shows the evidence that they got better.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"selfstudy {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def add(name: str, work: Callable[..., int | None], text: str, **more: Any) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False, **more)
        command.set_defaults(work=work)
        return command

    command = add("demo", _demo, "the main job on the embedded default, with a report at the end")
    command.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="its directory (default: %(default)s)"
    )
    command.add_argument("--seed", type=int, default=0, help="root of all random draws (default: 0)")
    command = add("methods", _methods, "what there is, what each needs and gives, its claim's status")
    command.add_argument("--family", help="only this family, such as reasoning")
    _add_show(add)
    _add_fit(add)
    _add_evaluate(add)
    command = add("resume", _resume, "continue a run that was cut off")
    command.add_argument("directory", type=Path)
    command.add_argument("--budget", help="larger limits than it had, such as tokens=4e6")
    _add_ray(command)
    _add_compare(add)
    _add_bench(add)
    command = add("claim", _claim, "test what a method is worth, on all its seeds")
    command.add_argument("method", nargs="?", help="whose claims to test")
    command.add_argument("--all", action="store_true", help="the claims of every method")
    command.add_argument("--seeds", type=int, help="only so many seeds; such a result is not recorded")
    command.add_argument(
        "--out", type=Path, default=Path("runs/claims"), help="where the runs go (default: %(default)s)"
    )
    command = add("report", _report, "make report.html of a run or a comparison")
    command.add_argument("directory", type=Path)
    command.add_argument("--png", action="store_true", help="draw its charts and pictures as PNG files too")
    command = add("label", _label, "a local page where people label what a run asks for")
    command.add_argument("directory", type=Path)
    command.add_argument("--host", default="127.0.0.1", help="to listen on (default: %(default)s)")
    command.add_argument("--port", type=int, default=0, help="to listen on (default: any free one)")
    command.add_argument("--annotators", type=int, help="people to answer each item (default: 1)")
    command.add_argument(
        "--import", type=Path, dest="bring", metavar="FILE", help="read labels from .json or .csv, and end"
    )
    command.add_argument(
        "--export", type=Path, metavar="FILE", help="write labels to .json (Label Studio) or .csv, and end"
    )
    command = add("export", _export, "write the trained encoder of a run as an ONNX file, and check it")
    command.add_argument("directory", type=Path)
    command.add_argument("--onnx", type=Path, required=True, metavar="FILE", help="such as encoder.onnx")
    add("doctor", _doctor, "what is installed, which device, what each missing extra would add")
    return parser, list(commands.choices)


def _add_show(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add(
        "show",
        _show,
        "what a method does, its fields and its claims",
        epilog="With --plot every other option is a field of the method, such as --schedule.plateau 0.3.",
    )
    command.add_argument("method", help="its name; see `selfstudy methods`")
    command.add_argument(
        "--plot",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE",
        help="draw its learning rates instead (default: METHOD-learning-rate.html)",
    )


def _add_fit(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add(
        "fit",
        _fit,
        "train a model by a method, and evaluate it before and after",
        epilog="Every other option is a field of the method, nested ones with a dot, such as "
        "--search.branch 3. `selfstudy show METHOD` lists them.",
    )
    command.add_argument("method", help="its name; see `selfstudy methods`")
    command.add_argument(
        "--task", help='such as "chain100" or "jsonl:mine.jsonl" (default: the method\'s, if it has one)'
    )
    command.add_argument("--labels", type=int, help="use so many labels of the task (default: the task's)")
    command.add_argument(
        "--model", help="tiny-lm, a hub id, a folder, a GGUF file, ... (default: the method's)"
    )
    command.add_argument("--out", type=Path, help="the run's directory (default: runs/METHOD-TASK-N)")
    command.add_argument("--seed", type=int, default=0, help="root of all random draws (default: 0)")
    command.add_argument("--budget", help="limits, such as tokens=2e6,seconds=600 (default: none)")
    command.add_argument("--config", type=Path, help="YAML file of fields; options go before it")
    command.add_argument("--train-limit", type=int, help="use so many training problems (default: all)")
    command.add_argument("--test-limit", type=int, help="evaluate on so many test problems (default: all)")
    command.add_argument("--dry-run", action="store_true", help="say what it costs and stop")
    _add_ray(command)


def _add_evaluate(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add(
        "evaluate",
        _evaluate,
        "answer the problems of a task by a language model: once, by votes, or by a search",
        epilog="Settings of the searches have a dot: --search.iterations 30 --search.branch 4 (mcts), "
        "--thought.branch 3 --thought.keep 2 (tot). --temperature 0.7 is that of the draws, --batch 64 how "
        "many problems are answered at once.",
    )
    command.add_argument("--task", required=True, help='such as "chain100" or "jsonl:mine.jsonl"')
    command.add_argument(
        "--model", default="tiny-lm", help="as for fit, or openai:URL of a server (default: %(default)s)"
    )
    command.add_argument("--solver", help="greedy, majority, best, weighted, mcts or tot (default: greedy)")
    command.add_argument("--samples", help="solutions a problem of majority, best and weighted (default: 8)")
    command.add_argument(
        "--value", help="folder of a value model (default: the one of the model's run, or shipped with it)"
    )
    command.add_argument("--split", default="test", help="train, validation or test (default: %(default)s)")
    command.add_argument("--test-limit", type=int, help="answer so many problems (default: all)")
    command.add_argument("--seed", type=int, default=0, help="root of all random draws (default: 0)")
    command.add_argument("--budget", help="limits, such as tokens=2e6,cost=5 (default: none)")
    command.add_argument("--out", type=Path, help="the run's directory (default: runs/SOLVER-TASK-N)")
    _add_ray(command)


def _add_compare(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add(
        "compare",
        _compare,
        "several methods on one budget, paired by seed",
        epilog="Fields of a method follow its name, such as --rest-mcts.search.branch 3.",
    )
    command.add_argument("methods", nargs="+", metavar="METHOD")
    command.add_argument("--task", required=True, help='such as "chain100"')
    command.add_argument("--labels", type=int, help="use so many labels of the task (default: the task's)")
    command.add_argument("--model", help="as for fit (default: the one that the methods start from)")
    command.add_argument(
        "--budget",
        help="what each fit may spend, such as tokens=2e6 (default: the samples that the settings ask for)",
    )
    command.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    command.add_argument("--out", type=Path, help="the directory (default: runs/compare-TASK-N)")
    command.add_argument("--train-limit", type=int, help="use so many training problems (default: all)")
    command.add_argument("--test-limit", type=int, help="evaluate on so many test problems (default: all)")
    command.add_argument(
        "--stop-hopeless",
        type=float,
        nargs="?",
        const=1.0,
        metavar="POINTS",
        help="after the first seed end runs whose learning curve stays so far below the best (default: "
        "never; 1 point without a number)",
    )
    command.add_argument(
        "--target",
        type=float,
        help="figure to be timed (default: what the weakest reaches in half its runs)",
    )
    command.add_argument("--workers", type=int, help="fits at the same time (default: one a core)")
    _add_ray(command)


def _add_bench(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add(
        "bench",
        _bench,
        "which training algorithm is first at the targets of small workloads",
        epilog="run and targets take names of workloads, such as digits-mlp; score takes folders of runs, "
        "or NAME=FOLDER of a submission in AlgoPerf's own format.",
    )
    command.add_argument("part", choices=("run", "score", "targets"), help="what to do")
    command.add_argument("of", nargs="+", metavar="WORKLOAD or DIR", help="what to do it with")
    command.add_argument(
        "--submissions",
        default="nesterov,adamw,nadamw,lion",
        help="names or module:function, separated by commas (default: %(default)s)",
    )
    command.add_argument("--ruleset", default="external", choices=("external", "self-tuning"))
    command.add_argument("--studies", type=int, default=3, help="whose median counts (default: 3)")
    command.add_argument("--trials", type=int, help="of each study, or of each search (default: 5, or 20)")
    command.add_argument("--seeds", type=int, default=5, help="whose median is a target (default: 5)")
    command.add_argument("--seed", type=int, default=0, help="root of all random draws (default: 0)")
    command.add_argument(
        "--clock", default="cost", choices=("cost", "wall"), help="that counts (default: cost)"
    )
    command.add_argument("--r-max", type=float, default=4.0, help="times the fastest that count (default: 4)")
    command.add_argument("--reference", help="submission that speed-ups are over (default: the first)")
    command.add_argument("--strict", action="store_true", help="refuse to score where trials are missing")
    command.add_argument("--out", type=Path, help="the run's directory, or the score's file")


def _add_ray(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ray",
        metavar="WHERE",
        help="batches of problems go to Ray workers: local (a worker a core), auto (the cluster of this "
        "machine) or HOST:PORT of its head (default: this process)",
    )


def _demo(known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.demo import demo

    demo(known.out, seed=known.seed)


def _methods(known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.catalogue import print_methods
    from selfstudy.app.tables import Output

    print_methods(known.family, Output())


def _show(known: argparse.Namespace, rest: Rest) -> None:
    from selfstudy.app.tables import Output

    if known.plot is not None:
        from selfstudy.app.plotting import plot

        plot(known.method, rest, known.plot, Output())
    else:
        from selfstudy.app.catalogue import print_method

        print_method(known.method, Output())


def _fit(known: argparse.Namespace, rest: Rest) -> None:
    from selfstudy.app.fields import config_from
    from selfstudy.app.fitting import Plan, fit_plan, read_budget
    from selfstudy.app.tables import Output
    from selfstudy.core.index import find

    budget = read_budget(known.budget)
    entry = find(known.method)
    plan = Plan(
        slug=known.method,
        method=config_from(entry.load(), known.config, rest),
        task=_with_labels(known.task or entry.default_task(), known.labels),
        model=known.model or entry.model,
        seed=known.seed,
        train_limit=_positive("--train-limit", known.train_limit),
        test_limit=_positive("--test-limit", known.test_limit),
    )
    fit_plan(plan, known.out, budget, dry_run=known.dry_run, ray=known.ray, console=Output())


def _evaluate(known: argparse.Namespace, rest: Rest) -> None:
    from selfstudy.app.answering import Asked, evaluate
    from selfstudy.app.fields import config_from
    from selfstudy.app.tables import Output
    from selfstudy.search.answering import Answering

    for name in ("solver", "samples"):
        rest += [f"--{name}", getattr(known, name)] if getattr(known, name) is not None else []
    asked = Asked(
        task=known.task,
        model=known.model,
        answering=config_from(Answering, None, rest),
        value=known.value,
        split=known.split,
        test_limit=_positive("--test-limit", known.test_limit),
        seed=known.seed,
    )
    evaluate(asked, known.out, budget=known.budget, ray=known.ray, console=Output())


def _resume(known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.resuming import resume
    from selfstudy.app.tables import Output

    resume(known.directory, known.budget, known.ray, Output())


def _compare(known: argparse.Namespace, rest: Rest) -> None:
    from selfstudy.app.comparing import compare, split_options
    from selfstudy.app.tables import Output

    compare(
        known.methods,
        _with_labels(known.task, known.labels),
        known.model,
        budget=known.budget,
        seeds=_positive("--seeds", known.seeds) or 1,
        out=known.out,
        fields=split_options(known.methods, rest),
        train_limit=_positive("--train-limit", known.train_limit),
        test_limit=_positive("--test-limit", known.test_limit),
        stop_hopeless=known.stop_hopeless,
        target=known.target,
        workers=known.workers,
        ray=known.ray,
        console=Output(),
    )


def _bench(known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.benching import bench_run, bench_score, bench_targets
    from selfstudy.app.tables import Output
    from selfstudy.evaluation.bench_protocol import Protocol

    trials, seeds = _positive("--trials", known.trials), _positive("--seeds", known.seeds)
    if known.part == "score":
        bench_score(
            [Path(each) for each in known.of],
            r_max=known.r_max,
            clock=known.clock,
            strict=known.strict,
            reference=known.reference,
            out=known.out,
            console=Output(),
        )
        return
    out = known.out or Path("runs") / f"bench-{known.part}"
    if known.part == "targets":
        bench_targets(known.of, out, seed=known.seed, trials=trials or 20, seeds=seeds or 1, console=Output())
        return
    protocol = Protocol(ruleset=known.ruleset, studies=known.studies, trials=trials or 5, clock=known.clock)
    protocol.check()
    bench_run(
        known.of, known.submissions.split(","), out, protocol=protocol, seed=known.seed, console=Output()
    )


def _claim(known: argparse.Namespace, _: Rest) -> int:
    from selfstudy.app.claiming import claim
    from selfstudy.app.tables import Output

    if bool(known.method) == known.all:
        raise UsageError("Name one method, or give --all: selfstudy claim METHOD.")
    return claim(known.method, known.out, _positive("--seeds", known.seeds), Output())


def _report(known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.report import read_comparison, write_report
    from selfstudy.app.tables import Output

    console, comparison = Output(), read_comparison(known.directory)
    files = [write_report(known.directory)]
    if comparison:
        from selfstudy.app.comparison import print_comparison

        print_comparison(comparison, console)
    if known.png:
        from selfstudy.app.images import write_images

        files += write_images(known.directory)
    for file in files:
        console.print(str(file), highlight=False, soft_wrap=True, markup=False)


def _label(known: argparse.Namespace, _: Rest) -> None:
    from importlib.util import find_spec

    from selfstudy.core.errors import MissingExtra

    for module in ("fastapi", "uvicorn", "jinja2", "python_multipart"):
        if find_spec(module) is None:
            raise MissingExtra(module.replace("_", "-"), "label")
    from selfstudy.app.labelling.server import label
    from selfstudy.app.tables import Output

    label(
        known.directory,
        Output(),
        host=known.host,
        port=known.port,
        annotators=_positive("--annotators", known.annotators),
        export=known.export,
        bring=known.bring,
    )


def _export(known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.exporting import export
    from selfstudy.app.tables import Output

    export(known.directory, known.onnx, Output())


def _doctor(_known: argparse.Namespace, _: Rest) -> None:
    from selfstudy.app.doctor import print_doctor
    from selfstudy.app.tables import Output

    print_doctor(Output())


def _with_labels(task: str, labels: int | None) -> str:
    """Return the task's specification with its number of labels."""
    if labels is None:
        return task
    name, _, query = task.partition("?")
    if any(field.startswith("labels=") for field in query.split("&")):
        raise UsageError(f"The task {task!r} says how many labels to use, and so does --labels. Say it once.")
    field = f"labels={_positive('--labels', labels)}"
    return f"{name}?{query}&{field}" if query else f"{name}?{field}"


def _positive(option: str, number: int | None) -> int | None:
    if number is not None and number < 1:
        raise UsageError(f"{option} needs a number of 1 or more, not {number}.")
    return number
