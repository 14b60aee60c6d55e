"""Work that takes longer than a request should: each job runs once, in a thread, one job at a time."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

from shards.base.errors import UserError

Result = TypeVar("Result")

_ONE_AT_A_TIME = threading.Lock()


class NotYet(Exception):
    """The result is still being computed; the message names it."""


class Later(Generic[Result]):
    """A result that is computed in the background, starting when it is first asked for."""

    def __init__(self, what: str, compute: Callable[[], Result]) -> None:
        """``what`` describes the work in progress, for messages: ``the map of vae is being laid out``."""
        self._what = what
        self._compute = compute
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._done = threading.Event()
        self._result: Result | None = None
        self._problem: str | None = None

    def start(self) -> None:
        """Starts the work, unless it was started before."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._what, daemon=True)
                self._thread.start()

    def get(self) -> Result:
        """The result.

        Raises:
            NotYet: It is still being computed.
            UserError: The work failed.
        """
        self.start()
        if not self._done.is_set():
            raise NotYet(f"{self._what}, which happens once.")
        if self._problem is not None:
            raise UserError(self._problem)
        return self._result  # type: ignore[return-value]

    def wait(self) -> Result:
        """Waits for the result."""
        self.start()
        self._done.wait()
        return self.get()

    def _run(self) -> None:
        try:
            with _ONE_AT_A_TIME:
                self._result = self._compute()
        except UserError as error:
            self._problem = str(error)
        except Exception:
            traceback.print_exc()
            self._problem = f"{self._what} failed; the studio's terminal says why."
        finally:
            self._done.set()
