"""Runs in a sandbox of its own: the tests of one program, which reach the judged code by calls alone.

The first letter of each message to the host:

    R   both sandboxes have started
    L   the code is loaded; U it cannot be parsed; E it raised (these two with the reason)
    P   the next test passed; F it failed (with the reason)
    G   the process of the code has ended, or broke off the conversation
"""

from __future__ import annotations

import _thread
import builtins
import time

from selfstudy.signals.sandbox.guest import MESSAGE, become, confine, module, told
from selfstudy.signals.sandbox.plain import Ended, decode, encode, receive, send

# Raised in a test they could end its loops early, and so let it pass.
_FLOW = ("StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "KeyboardInterrupt")
_LETTERS = {"ran": b"L", "unparsable": b"U", "raised": b"E"}


class _Code:
    """The judged code as its tests see it."""

    def __init__(self, link: int, most: int) -> None:
        self.link, self.most = link, most
        self.gone = False
        self.turn = _thread.allocate_lock()

    def hear(self) -> tuple:
        """Return the next message of the code; whatever it is, it is a tuple with a text in front."""
        try:
            heard = decode(receive(self.link, self.most))
            if not isinstance(heard, tuple) or not heard or not isinstance(heard[0], str):
                raise ValueError("no message")
        except (Ended, ValueError):
            self.gone = True
            raise Ended("the process of the code has ended") from None
        return heard

    def function(self, name: str) -> object:
        """Return what stands for the function `name` in the tests."""

        def call(*arguments: object, **named: object) -> object:
            request = encode((name, arguments, named))
            if len(request) > self.most:
                raise ValueError(f"arguments of more than {self.most} bytes")
            with self.turn:
                try:
                    send(self.link, request)
                except Ended:
                    self.gone = True
                    raise
                return _unpacked(self.hear())

        call.__name__ = call.__qualname__ = name
        return call


def _unpacked(answer: tuple) -> object:
    if answer[0] == "value":
        return answer[1]
    _, name, text = answer
    kind = getattr(builtins, str(name), None)
    if isinstance(kind, type) and issubclass(kind, BaseException) and name not in _FLOW:
        raise _made(kind, text)
    raise RuntimeError(text)


def _made(kind: type[BaseException], text: str) -> BaseException:
    for base in kind.__mro__:  # some classes want more than a text
        try:
            return base(text)
        except TypeError:
            continue
    return RuntimeError(text)


def main(user: int, link: int, results: int) -> None:
    """Test one program.

    Args:
        user: whom to become, or 0.
        link: the descriptor of the socket to the code.
        results: the descriptor of the pipe to the host.
    """
    become(user)
    job = decode(receive(0, MESSAGE))
    receive(link, 16)
    send(results, b"R")
    confine(job["limits"], {link, results})
    code = _Code(link, job["limits"]["output"])
    try:
        state, text, values = code.hear()
        given = _given(code, {name: values[name] for name in job["names"] if name in values})
    except (Ended, ValueError, TypeError, AttributeError, KeyError, IndexError):
        state, text, given = "", "", {}
    send(results, _LETTERS.get(state, b"G") + str(text)[:200].encode("utf-8", "replace"))
    for test in job["tests"] if state == "ran" else ():
        outcome = _outcome(job["setup"], test, given)
        send(results, b"G" if code.gone else outcome)
        if code.gone:
            break
    time.sleep(MESSAGE)  # the host ends the sandbox


def _given(code: _Code, values: dict) -> dict:
    """Return what the names stand for in the tests: only those asked for, or the code could give others."""
    return {name: code.function(name) if value[0] == "call" else value[1] for name, value in values.items()}


def _outcome(setup: str, test: str, given: dict) -> bytes:
    namespace = module("tests")
    try:
        exec(compile(setup, "setup.py", "exec", dont_inherit=True), namespace)
        namespace |= given
        exec(compile(test, "test.py", "exec", dont_inherit=True), namespace)
    except BaseException as error:
        return b"F" + told(error).encode()
    return b"P"
