"""Runs in a sandbox of its own: the judged code, which answers calls until the sandbox ends.

Whatever the judged code does to this process, all that leaves it are answers to calls, as plain data.
"""

from __future__ import annotations

import builtins

from selfstudy.signals.sandbox.guest import MESSAGE, become, confine, module, text_of, told
from selfstudy.signals.sandbox.plain import decode, encode, receive, send


def main(user: int, link: int) -> None:
    """Serve one program.

    Args:
        user: whom to become, or 0.
        link: the descriptor of the socket to the tests.
    """
    become(user)
    send(link, b"here")
    job = decode(receive(0, MESSAGE))
    confine(job["limits"], {link})
    namespace = module("solution")
    state, text = _load(job["code"], namespace)
    values = {name: _value(namespace[name]) for name in job["names"] if name in namespace}
    send(link, encode((state, text, {name: value for name, value in values.items() if value})))
    while True:
        send(link, _answer(namespace, receive(link, MESSAGE), job["limits"]["output"]))


def _load(code: str, namespace: dict) -> tuple[str, str]:
    try:
        compiled = compile(code, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "unparsable", told(error)
    try:
        exec(compiled, namespace)
    except BaseException as error:
        return "raised", told(error)
    return "ran", ""


def _value(value: object) -> tuple:
    """Return `("call",)`, `("value", data)`, or nothing for what cannot leave this process."""
    if callable(value):
        return ("call",)
    try:
        return ("value", decode(encode(value)))
    except TypeError:
        return ()


def _answer(namespace: dict, request: bytes, most: int) -> bytes:
    name, arguments, named = decode(request)
    try:
        answer = encode(("value", namespace[name](*arguments, **named)))
        if len(answer) > most:
            raise ValueError(f"a result of more than {most} bytes")
    except BaseException as error:
        return encode(("raised", _builtin(error), text_of(error)))
    return answer


def _builtin(error: BaseException) -> str:
    """Return the name of the closest class of `error` that Python has itself."""
    for kind in type(error).__mro__:
        if vars(builtins).get(kind.__name__) is kind:
            return kind.__name__
    return "Exception"
