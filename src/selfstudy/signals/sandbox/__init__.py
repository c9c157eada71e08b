"""Runs untrusted Python against tests, in bubblewrap.

    >>> from selfstudy.signals.sandbox import Program
    >>> code = "def double(x): return 2 * x"
    >>> program = Program(code=code, tests=("assert double(4) == 8",), names=("double",))

`judge([program])` then returns a list with one `Verdict`, whose `passed` is `(True,)`.
"""

from selfstudy.signals.sandbox.names import names_under_test
from selfstudy.signals.sandbox.pool import Sandbox, judge, require_sandbox
from selfstudy.signals.sandbox.programs import ENDINGS, Limits, Program, Verdict

__all__ = [
    "ENDINGS",
    "Limits",
    "Program",
    "Sandbox",
    "Verdict",
    "judge",
    "names_under_test",
    "require_sandbox",
]
