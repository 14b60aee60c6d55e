"""What a latent tool is: one recipe that the command, the report and the studio share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from eval.latent.conditions import require_condition
from eval.latent.options import ModelOptions, open_model
from facegen.model import Model
from shards.base import cli

OptionsT = TypeVar("OptionsT", bound=ModelOptions)


@dataclass(frozen=True)
class Tool(Generic[OptionsT]):
    """One latent tool.

    Attributes:
        name: Its command is ``python -m eval.NAME``.
        about: First paragraph of the command's ``--help``.
        options: The command's options: a dataclass, with ``run`` taken by position.
        draw: Draws and saves what the options ask for.
        needs: What the model must be able to do, in the words of ``Model.can``.
        is_conditional: Whether the model must generate by a label.
    """

    name: str
    about: str
    options: type[OptionsT]
    draw: Callable[[OptionsT, Model], None]
    needs: tuple[str, ...]
    is_conditional: bool = False

    def main(self, args: Sequence[str] | None = None) -> None:
        """The command line; ``args`` are the process's own when None."""
        prog = f"python -m eval.{self.name}"
        self.run(cli.parse(self.options, prog=prog, description=self.about, positional=["run"], args=args))

    def run(self, options: OptionsT) -> None:
        """Loads the model and draws.

        Raises:
            UserError: Options that the model or the data cannot meet.
        """
        model = open_model(options, *self.needs)
        if self.is_conditional:
            require_condition(model)
        self.draw(options, model)
