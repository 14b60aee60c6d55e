"""Ray Tune's schedulers and searchers, as a space asks for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Domain

from shards.base.files import replacing
from tuning.search.objective import SCORE
from tuning.search.space import Space
from tuning.trials.journal import IMAGES_SEEN

MODE = "min"
"""Scores are minimised."""


class ResumableASHA(AsyncHyperBandScheduler):
    """ASHA that keeps its rungs in a file: of a sweep, Ray restores trials and searcher, but not the scheduler.

    Attributes:
        state: The file.
    """

    def __init__(self, state: Path, **options: Any) -> None:
        """Starts without rungs, whatever the file holds; only a scheduler that Ray has restored reads it."""
        super().__init__(**options)
        self.state = state
        self._stopped: set[str] = set()
        self._is_current = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Called when Ray restores a sweep."""
        self.__dict__.update(state)
        self._is_current = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Puts the trial into its bracket; the first one in a restored sweep brings the rungs back."""
        if not self._is_current and self.state.is_file():
            self.restore(str(self.state))
        self._is_current = True
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides whether the trial continues; one that was stopped stays stopped."""
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self._stopped.add(trial.trial_id)
        with replacing(self.state, durable=False) as temporary:
            self.save(str(temporary))
        return TrialScheduler.STOP if trial.trial_id in self._stopped else decision


class Population(PopulationBasedTraining):
    """Population based training that leaves finished trials alone and does not wait for failed ones."""

    def __init__(self, max_images: int, **options: Any) -> None:
        """Takes the number of images at which trials end, and Ray's own options."""
        super().__init__(**options)
        self._max_images = max_images

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides whether the trial continues, pauses, or continues from another one's state."""
        if result[IMAGES_SEEN] >= self._max_images:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Lets the others continue if they waited for this one only; they skip one exchange."""
        super().on_trial_error(tune_controller, trial)
        others = [other for other in tune_controller.get_live_trials() if other is not trial]
        seen = [self._trial_state[other].last_train_time for other in others]
        if seen and min(seen) >= self._next_perturbation_sync:
            self._next_perturbation_sync += self._perturbation_interval


def make_scheduler(space: Space, state: Path) -> TrialScheduler:
    """The scheduler that the space asks for; its unit of time is images.

    Args:
        space: The space.
        state: File in which ASHA keeps its rungs.
    """
    config = space.scheduler
    if config.kind == "asha":
        return ResumableASHA(
            state,
            time_attr=IMAGES_SEEN,
            # One above, so that a trial that reaches its end finishes and is not stopped.
            max_t=space.max_images + 1,
            grace_period=config.grace_images or space.evaluation_interval,
            reduction_factor=config.reduction_factor,
        )
    if config.kind == "pbt":
        return Population(
            space.max_images,
            time_attr=IMAGES_SEEN,
            perturbation_interval=config.perturb_every_images or space.evaluation_interval,
            quantile_fraction=config.quantile_fraction,
            hyperparam_mutations={name: axis.mutations() for name, axis in space.search.items()},
            log_config=False,
            # All wait and are compared after the same number of images, also when they take turns on the machine.
            synch=True,
        )
    return FIFOScheduler()


def make_searcher(space: Space) -> Any:
    """What proposes the trials."""
    if space.searcher == "optuna":
        domains: dict[str, Domain] = {name: axis.domain() for name, axis in space.search.items()}
        return OptunaSearch(domains, metric=SCORE, mode=MODE, seed=space.seed)
    return BasicVariantGenerator(random_state=space.seed)
