"""Judges one case: refused in one sentence, or used with the right result; anything else is a finding."""

from __future__ import annotations

import contextlib
import io
import shutil
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.command_line import cli
from tests.campaigns.area import Area, Case
from tests.campaigns.watching import HangError, Watch

REFUSED, RIGHT = "refused", "right"
GOOD = (REFUSED, RIGHT)
BAD = ("traceback", "silent", "hang", "outside", "memory", "wordy")
"""Findings, the worst of a case first counts: an unforeseen exception, another result without a word, more than
``watching.HANG_SEC``, a file outside the given folders, too much memory, a refusal that is not one sentence."""

_MAX_SENTENCE = 1200


@dataclass(frozen=True)
class Verdict:
    """What came of a case."""

    outcome: str
    """One of ``GOOD`` or ``BAD``."""
    detail: str
    """The sentence of a refusal, the end of a traceback, the file outside."""
    seconds: float
    peak_mib: float


class Oracle:
    """Uses an area's inputs in a scratch folder and judges each."""

    def __init__(self, area: Area, scratch: Path) -> None:
        """Uses the good input once: what it must come to, and no import is left for a case.

        Raises:
            AssertionError: The good input is refused, or uses itself differently twice.
        """
        self._area, self._scratch = area, scratch
        with contextlib.redirect_stdout(io.StringIO()):
            self._good = {use: area.use(self._fresh_folder(), Case(use, [])) for use in dict.fromkeys(area.uses)}
        for use in self._good:
            verdict = self.judge(Case(use, []))
            assert verdict.outcome == RIGHT, f"{area.title}: the good input fails, {use}: {verdict.detail}"

    def judge(self, case: Case) -> Verdict:
        """Runs one case."""
        folder = self._fresh_folder()
        said = io.StringIO()
        with Watch(folder, self._area.writes, self._area.bait) as watch:
            outcome, detail = self._run(folder, case, said)
        if watch.outside:
            outcome, detail = "outside", watch.outside[0]
        elif watch.peak_mib > self._area.max_mib and outcome in GOOD:
            outcome, detail = "memory", f"{watch.peak_mib:.0f} MiB"
        return Verdict(outcome, detail, watch.seconds, watch.peak_mib)

    def _run(self, folder: Path, case: Case, said: io.StringIO) -> tuple[str, str]:
        found: list[Any] = []
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.showwarning = lambda message, *_, **__: said.write(f"warning: {message}\n")
                cli.run(lambda: found.append(self._area.use(folder, case)))
        except SystemExit as end:
            return _judge_refusal(end.code, said.getvalue())
        except HangError as error:
            return "hang", _where(error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return "traceback", f"{type(error).__name__}: {str(error)[:200]} {_where(error)}"
        if "Traceback (most recent call last)" in said.getvalue():
            return "traceback", said.getvalue()[-400:]
        good = self._good.get(case.use)
        if not found or self._area.accepts(good, found[0], said.getvalue(), case):
            return RIGHT, ""
        return "silent", _difference(good, found[0])

    def _fresh_folder(self) -> Path:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        return self._scratch


def _judge_refusal(code: object, said: str) -> tuple[str, str]:
    sentences = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback (most recent call last)" in said:
        return "traceback", said[-400:]
    if code == 2 and len(sentences) == 1 and said.endswith(f"{sentences[0]}\n") and len(sentences[0]) < _MAX_SENTENCE:
        return REFUSED, sentences[0].removeprefix("error: ")
    return "wordy", f"exit code {code}: {said[-400:]}"


def _where(error: BaseException) -> str:
    """The innermost lines, ours and the library's."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/tests/campaigns/" not in frame.filename]
    return " < ".join(f"{'/'.join(Path(f.filename).parts[-3:])}:{f.lineno}" for f in reversed(ours[-4:]))


def _difference(good: Any, found: Any) -> str:
    if isinstance(good, dict) and isinstance(found, dict):
        names = [name for name in {**good, **found} if good.get(name) != found.get(name)]
        return "; ".join(f"{name}: {found.get(name)!r:.100} instead of {good.get(name)!r:.100}" for name in names[:4])
    return f"{found!r:.200} instead of {good!r:.200}"
