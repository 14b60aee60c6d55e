"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

ItemT = TypeVar("ItemT")
_FIRST_LINE_SEC, _NEXT_LINES_SEC, _REFRESH_SEC = 2.0, 20.0, 1.0
_innermost = threading.local()


class ProgressLine:
    """Shows what is being done, how fast, and how long the rest takes; a context manager around the work.

    A terminal gets a bar. Elsewhere (a log, a pipe) work that takes longer than two seconds prints a line then and
    every 20 seconds, also while nothing is counted. Of nested work the innermost speaks, and names what it is part of.
    """

    def __init__(
        self, what: str, total: int | None = None, unit: str = "images", *, initial: int = 0, quiet: bool = False
    ) -> None:
        """Describes the work.

        Args:
            what: Its name, such as ``features of test``.
            total: How much there is to do; None where that is not known, or nothing is counted.
            unit: Of what is counted, in the plural; ``B`` for bytes.
            initial: How much was done before.
            quiet: Show nothing.
        """
        self.what, self.total, self.unit, self.done = what, total, unit, initial
        self._initial, self._quiet = initial, quiet
        self._ended, self._has_inner = threading.Event(), False

    def __enter__(self) -> ProgressLine:
        """Starts the clock."""
        self._start_sec = time.monotonic()
        self._outer: ProgressLine | None = getattr(_innermost, "progress", None)
        _innermost.progress = self
        if self._outer is not None:
            self._outer._has_inner = True
        self._bar = tqdm(
            desc=self.what,
            total=self.total,
            initial=self._initial,
            unit="B" if self.unit == "B" else f" {self.unit}",
            unit_scale=self.unit == "B",
            bar_format=None if self.total else "{desc} [{elapsed}]",
            leave=False,
            disable=self._quiet or None,
        )
        if not self._quiet:
            threading.Thread(target=self._tick, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the bar."""
        self._ended.set()
        self._bar.close()
        _innermost.progress = self._outer
        if self._outer is not None:
            self._outer._has_inner = False

    def update(self, num: int = 1) -> None:
        """Counts ``num`` more."""
        self.done += num
        self._updated_sec = time.monotonic()
        self._bar.update(num)

    def line(self) -> str:
        """What a log says now: what this work is part of, how much is done, how fast, and how long the rest takes."""
        new, seconds = self.done - self._initial, time.monotonic() - self._start_sec
        if not new:
            return f"{self._part_of()}{self.what}: {clock(seconds)}"
        rate = self._amount(new / seconds)
        return f"{self._part_of()}{self.what}: {', '.join([*self._counts(), f'{rate} {self.unit}/s', *self._left()])}"

    def _summary(self) -> str:
        counts = f" ({', '.join([*self._counts(), *self._left()])})" if self.total else ""
        return f"{self._part_of()}{self.what}{counts}"

    def _part_of(self) -> str:
        if self._outer is None:
            return ""
        # A stage may be named after its one step.
        return self._outer._part_of() if self._outer.what == self.what else f"{self._outer._summary()}: "

    def _counts(self) -> list[str]:
        of_total = f" of {self._amount(self.total)}" if self.total else ""
        return [f"{self._amount(self.done)}{of_total} {self.unit}"]

    def _left(self) -> list[str]:
        new = self.done - self._initial
        if not new or not self.total:
            return []
        # Counted from the last update: the rest shrinks until the next one, whatever that one takes.
        each_sec = (self._updated_sec - self._start_sec) / new
        rest_sec = each_sec * (self.total - self.done) - (time.monotonic() - self._updated_sec)
        return [f"{clock(max(0.0, rest_sec))} left"]

    def _amount(self, number: float) -> str:
        if self.unit == "B":
            return tqdm.format_sizeof(number)
        return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"

    def _tick(self) -> None:
        wait_sec = _FIRST_LINE_SEC if self._bar.disable else _REFRESH_SEC
        while not self._ended.wait(wait_sec):
            if not self._bar.disable:
                self._bar.refresh()
            elif not self._has_inner:
                wait_sec = _NEXT_LINES_SEC
                print(self.line(), file=sys.stderr, flush=True)


def tracked(items: Iterable[ItemT], what: str, total: int | None, unit: str) -> Generator[ItemT, None, None]:
    """Passes items on and counts each when the next one is asked for.

    Whoever handles the errors of its loop closes it: its line lasts until then.
    """
    with ProgressLine(what, total, unit) as progress:
        for item in items:
            yield item
            progress.update()


def clock(seconds: float) -> str:
    """A duration: 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
