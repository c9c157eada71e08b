from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

from selfstudy.core.progress import Progress

PROGRAM = """
from selfstudy.core.progress import Progress
bars = Progress()
bars.start()
for part in range(30):
    bars.message(f"part-{part}[/x]")
    with bars.bar(f"bar-{part}[/x]", 4, done=1) as advance:
        for _ in range(3):
            advance(1)
if bars._bars and bars._console.is_terminal:
    bars._bars.refresh()
    bars._console.print("LAST FRAME ABOVE")
bars.stop()
print("printed")
"""


def run_on_terminal(program: str) -> str:
    """Return what a terminal of 24 lines receives."""
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=side, env=environment
    ) as process:
        os.close(side)
        received = b""
        while True:
            try:
                piece = os.read(main, 1 << 16)
            except OSError:  # Linux: the other side is closed
                break
            if not piece:
                break
            received += piece
        assert process.wait(20) == 0
    os.close(main)
    return received.decode()


def test_bars_on_a_terminal():
    """Oracle: the newest of 30 bars is on a screen of 24 lines while it is drawn; the cursor comes back."""
    received = run_on_terminal(PROGRAM)
    assert "\x1b[?25h" in received
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", received)
    live = shown[: shown.index("LAST FRAME ABOVE")]
    assert "4/4" in live[live.rindex("bar-29[/x]") :].splitlines()[0]
    assert "4/4" in shown[shown.rindex("bar-29[/x]") :].splitlines()[0]
    assert "part-" not in shown  # lines are for where bars cannot be drawn


def test_lines_without_a_terminal():
    """Oracle: one line a part on standard error, names untouched, nothing of ours on standard output."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"part-{part}[/x]" for part in range(30)]
    assert done.stdout == "printed\n"


def test_invisible(capfd):
    """Oracle: not a byte, and the bar still works; also when it was never started."""
    for bars in (Progress(visible=False), Progress()):
        if not bars._visible:
            bars.start()
        bars.message("x")
        with bars.bar("y", 3) as advance:
            advance(1)
        bars.stop()
    assert capfd.readouterr() == ("", "")
