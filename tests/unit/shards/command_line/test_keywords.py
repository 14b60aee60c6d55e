"""Options given as Python keywords: what is wrong with them is a sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from shards.base.errors import UserError
from shards.command_line.keywords import from_keywords


@dataclass
class Options:
    data: str
    out: Path = Path()
    num: int | None = None
    share: float = 0.5
    quick: bool = False
    only: list[str] = field(default_factory=list)
    codec: Literal["jpg", "png"] = "jpg"

    def __post_init__(self) -> None:
        if self.share < 0:
            raise ValueError(f"share must not be negative, not {self.share}.")


def test_paths_and_numbers_of_any_library_are_taken() -> None:
    made = from_keywords(Options, {"data": Path("a"), "out": "b", "num": np.int64(3), "share": np.float32(0.25)})
    assert made == Options("a", Path("b"), 3, 0.25)
    assert from_keywords(Options, {"data": "a", "num": None, "share": 1, "only": ("x",)}).only == ("x",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nums": 3}, "no option 'nums'; did you mean 'num'"),
        ({"num": "many"}, "num must be a whole number or None, not 'many'"),
        ({"num": 1.5}, "num must be a whole number or None"),
        ({"num": True}, "num must be a whole number or None"),
        ({"share": "half"}, "share must be a number, not 'half'"),
        ({"share": -1}, "share must not be negative"),
        ({"quick": "yes"}, "quick must be true or false, not 'yes'"),
        ({"data": 3}, "data must be text, not 3"),
        ({"only": "cost"}, "only must be a list, not 'cost'"),
        ({"codec": "gif"}, "codec must be one of 'jpg', 'png', not 'gif'"),
    ],
)
def test_what_is_wrong_is_a_sentence(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_keywords(Options, {"data": "a"} | wrong)
