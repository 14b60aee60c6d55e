"""``python -m shards.pack SOURCE [INPUT] OUTPUT``: packs images into a data set of tar shards.

``shards.packing.pack.pack`` is the same from Python.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from shards.command_line.cli import parse_command, run
from shards.command_line.keywords import option_names
from shards.packing.options import PackOptions
from shards.packing.pack import pack
from shards.sources import SOURCES


def packing_class(source_config: type) -> type:
    """One flat dataclass of the shared options and a source's own: the command line has one flat list."""
    combined = dataclasses.make_dataclass(
        f"{source_config.__name__}Packing", [], bases=(PackOptions, source_config), kw_only=True
    )
    combined.__doc__ = source_config.__doc__
    return combined


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    name, config = parse_command(
        {name: packing_class(entry.config_class) for name, entry in SOURCES.items()},
        prog="python -m shards.pack",
        description="Packs images into tar shards with an index: python -m shards.pack SOURCE [INPUT] OUTPUT.",
        dest="source",
        positional=lambda name: ("input", "output") if SOURCES[name].takes_input else ("output",),
        args=args,
    )
    dataset = pack(name, **{option: getattr(config, option) for option in option_names(type(config))})
    counts = ", ".join(f"{split} {dataset.num_samples(split)}" for split in dataset.splits)
    print(f"{dataset.address}: {counts}; fingerprint {dataset.fingerprint}")


def _interruptible() -> None:
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; rerun the command to resume.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    run(_interruptible)
