"""AlgoPerf: which training algorithm brings a network to a fixed quality first, its tuning included?

Dahl, Schneider, Nado, Agarwal, and others 2023, "Benchmarking Neural Network Training Algorithms",
arXiv 2306.07179. Pick it to choose an optimiser for a task of your own, or to test one that claims to be
faster. A comparison of final accuracies with one optimiser tuned more than the other, which is the familiar
way, says neither how long it took nor what the tuning was worth. `selfstudy bench` runs the same protocol on
several workloads, which is what a claim about an optimiser in general needs.

Deviations from the paper: one workload, the user's own, labelled images or texts, each shown as it is; by
default the clock counts steps, so that a run is the same to the bit on every machine ("cost"
multiplies them by seconds of a step that are measured first, "wall" is the paper's clock); a trial ends when
the validation target is met; the test target is not looked at, since a fit does not see test images; ranges
of the search are ours, and there is no dropout to tune.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from selfstudy.core.errors import UsageError
from selfstudy.core.method import Fit, Method
from selfstudy.core.run import Run
from selfstudy.data.items import Texts
from selfstudy.evaluation.bench_protocol import (
    Protocol,
    Ruleset,
    calibrated_prices,
    chosen_trial,
    run_field,
    set_target,
    with_target,
)
from selfstudy.evaluation.performance_profiles import R_MAX, median_time
from selfstudy.evaluation.profile_pictures import (
    approach_picture,
    profile_picture,
    study_profiles,
    times_picture,
)
from selfstudy.evaluation.time_to_target import Scored, score, trial_time
from selfstudy.learning.loops import check_positive
from selfstudy.learning.submissions import STANDARD, SUBMISSIONS, submissions_by_name
from selfstudy.learning.timed_trials import Clock, Trial, steps_within
from selfstudy.learning.workloads import Batch, Progress, TensorWorkload
from selfstudy.models.encoders.base import ImageEncoder
from selfstudy.models.encoders.small_bert import SmallBert
from selfstudy.models.encoders.text_transformers import TextTransformer
from selfstudy.tasks.images import ImageTask
from selfstudy.tasks.own_workloads import own_workload
from selfstudy.tasks.pools import PoolTask

UNITS = {"steps": "steps", "cost": "seconds of its steps", "wall": "seconds"}  # of the clocks
AnyTask = ImageTask | PoolTask
AnyModel = ImageEncoder | SmallBert | TextTransformer
UNSET = 0.0  # the target of a workload whose target is looked for


@dataclass(frozen=True, kw_only=True)
class Algoperf(Method):
    """Run training algorithms against the clock, and keep what the fastest has trained (Dahl et al. 2023)."""

    works_on = ((ImageTask, PoolTask), (ImageEncoder, SmallBert, TextTransformer))

    submissions: tuple[str, ...] = ("nesterov", "adamw", "nadamw", "lion")
    """Names of `selfstudy.learning.submissions.SUBMISSIONS`, or module:function that returns your own."""
    target: float | None = None
    """Share of validation items told wrong at which a trial has arrived; None looks for one first."""
    target_trials: int = 20
    """Trials of each standard optimiser that look for a target; the authors' 200."""
    target_seeds: int = 5
    """Seeds whose median is the target; the authors' 20."""
    ruleset: Ruleset = "external"
    """"external" takes the best of some trials in each study; "self-tuning" has no settings and more time."""
    studies: int = 3
    """S, whose median counts."""
    trials: int = 5
    """R, of each study; there are none in self-tuning."""
    steps: int = 500
    """The step hint, at which the schedules of rates end; a training may take a third more."""
    batch: int = 64
    """Images, or texts, of a step; all, where there are fewer."""
    looks: int = 20
    """Evaluations within the step hint."""
    self_tuning_runtime: float = 1.5
    """How many times as long a training may take in self-tuning."""
    clock: Literal["steps", "cost", "wall"] = "steps"
    """What a time is: steps; steps by their seconds, measured first; or seconds."""
    r_max: float = R_MAX
    """Times the fastest, above which a target counts as missed."""

    def suits(self, task: Any, model: Any) -> bool:
        """Encoders of images are for images, those of texts for a pool of texts."""
        texts = isinstance(task, PoolTask) and isinstance(task.pool, Texts)
        images = isinstance(task, ImageTask) and isinstance(model, ImageEncoder)
        return images or (texts and isinstance(model, SmallBert | TextTransformer))

    def validate(self) -> None:
        """Check the fields against each other."""
        check_positive(self, target_trials=0, target_seeds=0, steps=0, batch=0, r_max=1)
        check_positive(self, looks=0, studies=0, trials=0, self_tuning_runtime=0)
        submissions_by_name(self.submissions)
        if self.target is not None and not 0 <= self.target < 1:
            raise UsageError(f"target is {self.target:g}; it must be from 0 to below 1, a share told wrong.")
        if self.looks > self.steps:
            raise UsageError(f"There cannot be {self.looks} looks in {self.steps} steps. Lower looks.")

    def cost(self, task: AnyTask, model: AnyModel) -> dict[str, float]:
        """Return the most that a fit spends, by budget unit: trials end early where they meet the target."""
        workload = self._workload(task, model)
        longest = steps_within(self._protocol().limits(workload).max_runtime)
        per_study = self.trials if self.ruleset == "external" else 1
        steps = len(self.submissions) * self.studies * per_study * longest
        if self.target is None:
            steps += (len(STANDARD) * self.target_trials + self.target_seeds) * self.steps
        return {unit: steps * amount for unit, amount in workload.step_cost(workload.batch).items()}

    def trial(self, task: AnyTask, model: AnyModel) -> tuple[Callable[[], object], int]:
        """Return one step of the first submission on a copy, and the most that a fit takes."""
        workload, submission = self._workload(task, model), submissions_by_name(self.submissions)[0]
        network = workload.first_model(0)
        state = submission.init_optimizer_state(workload, network, submission.fixed)
        some = Batch(workload.inputs[: workload.batch], workload.targets[: workload.batch])
        progress = Progress(0, self.steps, 0.0, [], 0)

        def step() -> None:
            network.train()
            submission.update_params(workload, network, some, submission.fixed, state, progress)

        return step, int(self.cost(task, model)["samples"] / workload.batch)

    def fit(self, task: AnyTask, model: AnyModel, run: Run) -> Fit:
        """Return the classifier of the trial that brought the best submission to the target first."""
        workload = self._workload(task, model)
        if self.target is None:
            standard = [SUBMISSIONS[name] for name in STANDARD]
            found = set_target(
                run, workload, standard, trials=self.target_trials, seeds=self.target_seeds, looks=self.looks
            )
            workload = with_target(workload, found.validation)
        field = submissions_by_name(self.submissions)
        prices = None if self.clock == "steps" else calibrated_prices(run, workload, field)
        trials = run_field(run, workload, field, self._protocol(), prices, keep=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No contestant")  # said below, in this method's words
            scored = score([trial.log for trial in trials], r_max=self.r_max, clock=self._clock)
        if not scored.scores and run.meter.refused is None:
            warnings.warn(
                f"No submission met the target, a validation error of {workload.target:g}, in most of its "
                "studies. The classifier is that of the best trial; raise steps, trials or target.",
                stacklevel=2,
            )
        return self._fitted(scored, trials)

    def _fitted(self, scored: Scored, trials: list[Trial]) -> Fit:
        times = [trial_time(trial.log, self._clock) for trial in trials]
        best = {name: chosen_trial(trials, name, times) for name in scored.times}
        studies = {name: next(iter(own.values())) for name, own in scored.studies.items()}
        winner = min(best, key=lambda name: (median_time(studies[name]), _best_figure(best[name])))
        profiles = study_profiles(scored.studies, self.r_max)
        pictures = [] if profiles is None else [profile_picture(profiles, what="studies")]
        pictures += [
            times_picture(studies, UNITS[self.clock]),
            approach_picture(
                {name: trial.log for name, trial in best.items()}, self._clock, UNITS[self.clock]
            ),
        ]
        metrics: dict[str, Any] = {
            "winner": winner,
            "target, validation error": best[winner].log["target"],
            "settings of the winner": best[winner].log["settings"],
            **{f"B, {name}": found for name, found in scored.scores.items()},
            **{
                f"studies at the target, {name}": sum(time < float("inf") for time in own)
                for name, own in studies.items()
            },
            **scored.to_json(),
        }
        if self.clock == "steps":  # seconds say nothing then, and would differ from run to run
            del metrics["apart"]
        return Fit(model=best[winner].model, metrics=metrics, pictures=pictures)

    @property
    def _clock(self) -> Clock:
        return "wall" if self.clock == "wall" else "cost"

    def _protocol(self) -> Protocol:
        return Protocol(
            ruleset=self.ruleset,
            studies=self.studies,
            trials=self.trials,
            self_tuning=self.self_tuning_runtime,
            looks=self.looks,
            clock=self._clock,
        )

    def _workload(self, task: AnyTask, model: AnyModel) -> TensorWorkload:
        target = UNSET if self.target is None else self.target
        return own_workload(task, model, target=target, step_hint=self.steps, batch=self.batch)


def _best_figure(trial: Trial) -> float:
    return min((look["validation"] for look in trial.log["looks"]), default=float("inf"))
