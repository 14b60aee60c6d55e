"""Which options of a run may change when it resumes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from facegen.option_values import to_dict
from facegen.options import TrainConfig
from facegen.runs.file_formats import with_defaults

# None of these changes what an image does to the weights by more than rounding, except for the limits, which may be
# raised to train on.
_LIMITS = ("max_images", "max_steps", "max_epochs", "early_stop")
_SECTIONS = ("loader", "monitor", "checkpoint", "performance")
_SHARING = ("gradient_accumulation_steps", "process_timeout_sec")
_FREE = ("data", "run", *_LIMITS, *_SECTIONS, *_SHARING, "dry_run", "profile")


def forbidden_changes(old: dict[str, Any], config: TrainConfig, file_options: Collection[str] = ()) -> list[str]:
    """The options that changed though a run cannot resume with another value, each with both values.

    Args:
        old: The run's options as plain values; one that was added since has its default.
        config: The options to resume with.
        file_options: Dotted names of the model's options that only say where a file lies.
    """
    defaults = to_dict(type(config)(data=config.data, run=config.run))  # type: ignore[call-arg]
    free = (*_FREE, *(f"model.{name}" for name in file_options))
    return differences(_without(with_defaults(old, defaults), free), _without(to_dict(config), free))


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Names, and both values, of the options that differ between two plain configs."""
    found = []
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} (was {before}, now {after})")
    return found


def _without(options: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Nested options except those of the given dotted names."""
    kept = {}
    for name, value in options.items():
        inner = [other.removeprefix(f"{name}.") for other in names if other.startswith(f"{name}.")]
        if name not in names:
            kept[name] = _without(value, inner) if inner and isinstance(value, dict) else value
    return kept
