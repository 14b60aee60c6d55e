"""The images that could not be packed: counted by reason, named, and compared with what is allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from shards.base.errors import UserError
from shards.packing.shard import ShardResult

_NUM_NAMED = 10


def summarize_skipped(results: Sequence[ShardResult]) -> dict[str, Any]:
    """Counts bad images by reason and names the first of each."""
    pairs = sorted((reason, name) for result in results for name, reason in result.skipped)
    counts = Counter(reason for reason, _ in pairs)
    return {
        "num": len(pairs),
        "reasons": {
            reason: {"num": count, "first": [name for other, name in pairs if other == reason][:_NUM_NAMED]}
            for reason, count in sorted(counts.items())
        },
    }


def check_skipped(results: dict[str, ShardResult], num_items: int, max_fraction: float) -> None:
    """Checks the share of bad images.

    Raises:
        UserError: More than ``max_fraction`` of all items; they are printed first.
    """
    num_skipped = sum(len(result.skipped) for result in results.values())
    if num_skipped > max_fraction * num_items:
        print_skipped(summarize_skipped(list(results.values())))
        raise UserError(
            f"{num_skipped} of {num_items} images are bad, more than --max_skipped_fraction {max_fraction:g} allows; "
            "mend the input, or run the same command with a higher fraction (finished shards are kept)."
        )


def print_skipped(skipped: dict[str, Any]) -> None:
    """Prints a line for each reason."""
    for reason, found in skipped["reasons"].items():
        more = ", ..." if found["num"] > len(found["first"]) else ""
        print(f"Skipped, {reason}: {found['num']} ({', '.join(found['first'])}{more})")
