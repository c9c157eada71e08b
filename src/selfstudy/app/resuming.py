"""`selfstudy resume`: go on with whatever kind of work a directory holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from selfstudy.core.errors import UsageError
from selfstudy.core.files import read_json
from selfstudy.core.group import require_alone

if TYPE_CHECKING:
    from rich.console import Console


def resume(directory: Path, budget: str | None, ray: str | None, console: Console) -> None:
    """Continue the fit, comparison, evaluation or demo in `directory`.

    Args:
        directory: what its --out was.
        budget: larger limits than it had, for a fit or an evaluation; None keeps them.
        ray: the cluster whose workers take batches of problems; None works in this process.
        console: where to say what happens.

    Raises:
        UsageError: there is nothing to continue.
    """
    from selfstudy.app import comparing, fitting
    from selfstudy.app.plans import read_config

    if (directory / comparing.ASKED).exists():
        require_alone("A comparison")
        asked = read_json(directory / comparing.ASKED)
        if budget:
            raise UsageError(
                f"The comparison in {directory} keeps its budget: its runs would differ. Give another --out."
            )
        comparing.compare(**asked, out=directory, ray=ray, console=console)
        return
    config = read_config(directory)
    if config.get("command") == "evaluate":
        from selfstudy.app import answering

        answering.resume(directory, budget, ray, console)
        return
    if config.get("command") == "demo":
        from selfstudy.app.demo import demo

        require_alone("The demo")
        if ray:
            raise UsageError(f"The demo in {directory} works in one process. Resume it without --ray.")
        demo(directory, seed=config["seed"])
        return
    fitting.resume(directory, budget=budget, ray=ray, console=console)
