"""Sessions of the real command that are killed: one process imports everything once and forks them.

Reads requests as JSON lines from stdin and answers each with a line: the exit code (-9 when killed), the
operations on files in the run's directory, those of them on checkpoints and records, and the seconds taken.
What a session that ended well had to import is imported here too, so that the next ones find it.
Not a test itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def session(arguments: list[str], out: Path, **more: Any) -> dict[str, Any]:
    """Run `selfstudy ARGUMENTS --out OUT` in a process of its own.

    Args:
        arguments: of the command, without --out.
        out: the run's directory.
        more: `after`: SIGKILL after so many seconds; `at`: SIGKILL before that operation on the run's files;
            `within`: before that operation on its checkpoints and records; `processes`: so many that torchrun
            would start, of which the first is counted and killed, and the others with it;
            `listed`: (slug, file, class) of a method to put in the index; `demo`: the settings of the demo.
    """
    server = _server()
    assert server.stdin and server.stdout
    server.stdin.write(json.dumps({"arguments": arguments, "out": str(out), **more}) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@functools.cache
def _server() -> subprocess.Popen[str]:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def close() -> None:
        assert server.stdin and server.stdout
        server.stdin.close()
        server.wait()
        server.stdout.close()

    atexit.register(close)
    return server


def _fork(request: dict[str, Any]) -> dict[str, Any]:
    start, processes = time.monotonic(), request.get("processes", 1)
    read, write = os.pipe()
    port = _free_port()
    pids = []
    for rank in range(processes):
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(read)
            if processes > 1:
                _join(rank, processes, port)
            _child(request, write, leads=rank == 0)
    os.close(write)
    timer = threading.Timer(request.get("after", 3600), os.kill, (pids[0], signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(pids[0], 0)
    timer.cancel()
    code = os.waitstatus_to_exitcode(status)
    for pid in pids[1:]:
        if code:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        operations, within = map(int, (pipe.read() or "0 0").split())
    if code == 0:
        _import_all(Path(request["out"] + ".imported").read_text().split())
    return {
        "code": code,
        "operations": operations,
        "within": within,
        "seconds": time.monotonic() - start,
    }


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _join(rank: int, processes: int, port: int) -> None:
    """Set what torchrun sets in the process of this rank."""
    for name in ("RANK", "LOCAL_RANK"):
        os.environ[name] = str(rank)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        os.environ[name] = str(processes)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")


def _child(request: dict[str, Any], write: int, *, leads: bool) -> None:
    out, count, within = request["out"], 0, 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count, within
        if leads and event in OPERATIONS and str(arguments[0]).startswith(out):
            count += 1
            within += str(arguments[0]).startswith(f"{out}/partial/")
            if count == request.get("at") or within == request.get("within"):
                os.kill(os.getpid(), signal.SIGKILL)

    code, known = 1, set(sys.modules)
    with contextlib.suppress(BaseException):
        from selfstudy.app import cli

        if "listed" in request:
            _list(*request["listed"])
        if "demo" in request:
            _shrink_demo(request["demo"])
        log = os.open(out + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.addaudithook(watch)
        code = cli.main(["--traceback", *request["arguments"], "--out", out])
        sys.stderr.flush()
        if leads:
            os.write(write, f"{count} {within}".encode())
            Path(out + ".imported").write_text("\n".join(name for name in sys.modules if name not in known))
    os._exit(code)


def _import_all(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(Exception):  # some are no files, or made by the session itself
            importlib.import_module(name)


def _list(slug: str, file: str, name: str) -> None:
    from selfstudy.core.index import METHODS, Entry

    module = "listed_" + Path(file).stem
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec and spec.loader
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
    METHODS[slug] = Entry(
        slug=slug, title="", authors="", year=0, family="", needs="", gives="", target=f"{module}:{name}"
    )


def _shrink_demo(settings: dict[str, Any]) -> None:
    from selfstudy.app import demo
    from selfstudy.core.config import from_dict

    smaller = from_dict(demo.DemoSettings, settings)
    demo.DemoSettings = lambda: smaller  # type: ignore[assignment, misc]


def _serve() -> None:
    from selfstudy.core.index import METHODS
    from selfstudy.core.run import Run

    for module in (
        "selfstudy.app.report",
        "selfstudy.app.demo",
        *(entry.target.partition(":")[0] for entry in METHODS.values()),
    ):
        importlib.import_module(module)

    # Checkpoints are minutes apart; here kills are to fall between them too.
    assert Run.__init__.__kwdefaults__["checkpoint_steps"] is None
    Run.__init__.__kwdefaults__["checkpoint_steps"] = 2
    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve()
