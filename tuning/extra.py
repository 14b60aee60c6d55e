"""Whether the packages of sweeps are installed. Imports none of them."""

from __future__ import annotations

from importlib.util import find_spec

from shards.base.errors import UserError

_PACKAGES = ("ray", "optuna", "pyarrow")


def require_packages() -> None:
    """Checks that the extra ``tuning`` is installed.

    Raises:
        UserError: It is not.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(f"sweeps need {', '.join(missing)}; install: pip install 'facegen[tuning]'")
