"""What this machine offers and its environment asks for: the cache directory, numbers, and cores to work on."""

from __future__ import annotations

import os
from pathlib import Path

from shards.base.errors import UserError

BETWEEN_PARTS = " + "
"""Joins the data sets of a mix to one text, as it stands in a run's config."""
CACHE_VARIABLE = "FACEGEN_CACHE"


def cache_directory() -> Path:
    """The user's cache directory for this project, or the one that the variable ``FACEGEN_CACHE`` names."""
    import platformdirs

    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("facegen"))


def positive_number(variable: str, default: float, unit: str) -> float:
    """The number that an environment variable holds.

    Args:
        variable: Its name.
        default: The number where it is not set.
        unit: For the message, such as seconds.

    Raises:
        UserError: Its value is not a positive number.
    """
    text = os.environ.get(variable, str(default))
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise UserError(f"{variable} must be a positive number of {unit}, not '{text}'.")
    return number


def num_cores() -> int:
    """Cores that this process may use; a cluster's scheduler can limit them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spin_briefly() -> None:
    """Lets threads of torch and scikit-learn, not yet imported, sleep soon while they wait for each other.

    GNU's OpenMP spins for milliseconds by default. Where another program occupies a core, that keeps the thread from
    running that all others wait for: two threads on two cores, one of them busy, train at down to a tenth of their
    speed. Spinning even less costs more on idle cores. Results do not change. Variables in the environment win.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        os.environ["GOMP_SPINCOUNT"] = "3000"
