"""What a timed trial times: a submission that updates a network, and what it may know while doing so."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from selfstudy.core.run import Run
from selfstudy.learning.workloads import Batch, Progress, Settings, Submission, Workload


class Training:
    """A submission that trains the network of a workload, and the seconds of what it does.

    Args:
        run: whose key names all draws.
        workload: what is trained.
        submission: what trains it.
        settings: a point of the submission's space.
        stream: names the first weights and the order of the data.
        now: the clock, in seconds.

    Attributes:
        model: the network.
        size: examples of a step.
    """

    def __init__(
        self,
        run: Run,
        workload: Workload,
        submission: Submission,
        settings: Settings,
        stream: str,
        now: Callable[[], float],
    ) -> None:
        self._run, self._workload, self._submission = run, workload, submission
        self._settings, self._stream, self._now = settings, stream, now
        self._seen = Unnamed(workload, submission.name)
        self.size = submission.get_batch_size(workload.name, workload.batch)
        self.model: Any = workload.first_model(run.key(stream, "weights"))
        self._state: Any = submission.init_optimizer_state(self._seen, self.model, settings)
        self._queue = Queue(run, workload, stream, self.size)

    def parts(self) -> dict[str, Any]:
        """Return what changes from step to step."""
        return {"model": self.model, "submission": self._state, "queue": self._queue}

    def update(self, step: int, share: float, looks: list[dict[str, Any]]) -> float:
        """Take a step, `share` of the time being over; return its seconds."""
        progress = Progress(step, self._workload.step_hint, share, looks, self._run.key(self._stream, step))
        self.model.train()
        begun = self._now()
        batch = self._submission.data_selection(self._queue, self._state, progress)
        self._submission.update_params(self._seen, self.model, batch, self._settings, self._state, progress)
        return self._now() - begun

    def prepare(self) -> tuple[nn.Module, float]:
        """Return the network to evaluate, and the seconds that preparing it took."""
        begun = self._now()
        shown = self._submission.prepare_for_eval(self._seen, self.model, self._settings, self._state)
        return shown, self._now() - begun


class Queue:
    """Batches one after the other, from a place that is checkpointed."""

    def __init__(self, run: Run, workload: Workload, stream: str, size: int) -> None:
        self._run, self._workload, self._stream, self._size = run, workload, stream, size
        self._place = 0

    def next(self) -> Batch:
        """Return the next batch."""
        batch = self._workload.examples(self._run, self._stream, self._place, self._size)
        self._place += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the place."""
        return {"place": self._place}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to a place."""
        self._place = state_dict["place"]


class Unnamed:
    """A workload as a submission sees it: reading its name is worth a warning, for no rule may hang on it."""

    def __init__(self, workload: Workload, submission: str) -> None:
        self._workload, self._submission = workload, submission

    def __getattr__(self, name: str) -> Any:
        if name == "name":
            warnings.warn(
                f"The submission {self._submission!r} reads the name of a workload. Only get_batch_size may: "
                "what is tuned to a workload by its name says nothing of others.",
                stacklevel=2,
            )
        return getattr(self._workload, name)
