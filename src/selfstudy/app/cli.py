"""The command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from selfstudy import __version__
from selfstudy.app.commands import (
    bench,
    claim,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    fit,
    label,
    methods,
    report,
    resume,
    show,
)
from selfstudy.app.commands.command import Command
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
COMMANDS: dict[str, Command] = {
    "demo": demo.COMMAND,
    "methods": methods.COMMAND,
    "show": show.COMMAND,
    "fit": fit.COMMAND,
    "evaluate": evaluate.COMMAND,
    "resume": resume.COMMAND,
    "compare": compare.COMMAND,
    "bench": bench.COMMAND,
    "claim": claim.COMMAND,
    "report": report.COMMAND,
    "label": label.COMMAND,
    "export": export.COMMAND,
    "doctor": doctor.COMMAND,
}
BROKEN_PIPE = 141  # 128 + SIGPIPE, as the shell reports it


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
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise UsageError(f"Unknown command {arguments[0]!r}. {nearest(arguments[0], COMMANDS)}")
    known, rest = parser.parse_known_args(arguments)
    command = COMMANDS[known.command]
    if rest and not command.takes_fields(known):
        raise UsageError(f"Unknown argument {rest[0]!r}. See: selfstudy {known.command} --help")
    if not command.in_group:
        require_alone(f"`selfstudy {known.command}`")
    return command.work(known, rest) or 0


def _parser() -> Parser:
    parser = Parser(
        prog="selfstudy",
        description="Trains models from their own signals, and shows the evidence that they got better.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"selfstudy {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        own = parsers.add_parser(
            name, help=command.help, description=command.help, epilog=command.epilog, allow_abbrev=False
        )
        command.add_options(own)
    return parser
