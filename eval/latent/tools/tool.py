"""A latent tool: one recipe behind its command and its routes in the studio."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from eval.latent.conditions import require_condition
from eval.latent.options import ModelOptions, open_model
from facegen.model import Model
from shards.command_line import cli
from shards.images.codecs import encode

OptionsT = TypeVar("OptionsT", bound=ModelOptions)


class Encoded(NamedTuple):
    """The content of a file, and its media type."""

    content: bytes
    media_type: str


@dataclass(frozen=True)
class StudioRoute:
    """What the studio offers of a tool, at ``/api/runs/{run}/PATH``.

    Attributes:
        path: Below the run's address.
        answer: Called with the run's ``Editor`` and what was asked. Its signature and the first paragraph of its
            docstring document the API: a parameter that is a request model is the body, others are the query. It
            returns a picture, uint8 (H, W, C), which is sent as PNG; an ``Encoded``; or something that becomes JSON.
        method: HTTP method.
        group: Heading in the API's documentation.
        name: Name in the API's documentation; the path's last part when empty.
        one_at_a_time: Requests wait for each other; for those that need much memory.
    """

    path: str
    answer: Callable[..., Any]
    method: Literal["GET", "POST"] = "POST"
    group: str = "Morphs and maps"
    name: str = ""
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Tool(Generic[OptionsT]):
    """One latent tool.

    Attributes:
        name: Name of the command, ``python -m eval.NAME``.
        about: First paragraph of the command's ``--help``.
        options: Dataclass of the command's options; ``run`` is positional.
        draw: Draws and saves what the options ask for.
        needs: What the model must be able to do, in the words of ``Model.can``.
        is_conditional: Whether the model must generate by a label.
        routes: What the studio offers of the tool.
    """

    name: str
    about: str
    options: type[OptionsT]
    draw: Callable[[OptionsT, Model], None]
    needs: tuple[str, ...]
    is_conditional: bool = False
    routes: tuple[StudioRoute, ...] = ()

    def main(self, args: Sequence[str] | None = None) -> None:
        """The command line; ``args`` are the process's own when None."""
        prog = f"python -m eval.{self.name}"
        self.run(cli.parse(self.options, prog=prog, description=self.about, positional=["run"], args=args))

    def run(self, options: OptionsT) -> None:
        """Loads the model and draws.

        Raises:
            UserError: The model or the data cannot do what the options ask for.
        """
        options.check_outputs()
        model = open_model(options, *self.needs)
        if self.is_conditional:
            require_condition(model)
        self.draw(options, model)


def data_uri(image: np.ndarray) -> str:
    """A picture, uint8 (H, W, C), as the ``data:`` address of a PNG, for JSON."""
    return f"data:image/png;base64,{base64.b64encode(encode(image, 'png')).decode()}"
