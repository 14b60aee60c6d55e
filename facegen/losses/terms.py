"""A loss as named terms, each with its weight, which are summed once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Term(NamedTuple):
    """One term of a loss: ``weight * value``."""

    value: Tensor
    """A scalar, with its gradient."""
    weight: float = 1.0


def weighted_sum(terms: Mapping[str, Term]) -> Tensor:
    """The loss, a scalar: the sum of ``weight * value`` in the order of ``terms``, at least one."""
    first, *others = (term.value if term.weight == 1 else term.weight * term.value for term in terms.values())
    return sum(others, first)


def values(terms: Mapping[str, Term]) -> dict[str, Tensor]:
    """The terms to log, by name: not weighted, without a gradient."""
    return {name: term.value.detach() for name, term in terms.items()}
