"""Progress of long work where there is no terminal, and on one."""

from __future__ import annotations

import io
import time

import pytest

from shards.base import progress as module
from shards.base.progress import ProgressLine, clock, tracked


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_LINE_SEC", 0.02)
    monkeypatch.setattr(module, "_NEXT_LINES_SEC", 0.02)


def wait_for(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    found, end = "", time.monotonic() + 20
    while text not in found and time.monotonic() < end:
        time.sleep(0.01)
        found += capsys.readouterr().err
    return found


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(tracked(range(3), "counting", 3, "numbers")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("fast_clock")
def test_a_log_gets_stage_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("report", 3, "runs") as runs, ProgressLine("samples", 1500) as images:
        runs.update()
        images.update(500)
        line = next(line for line in wait_for("500 of", capsys).splitlines() if "500 of" in line)
    assert line.startswith("report (1 of 3 runs, 0:0")
    assert "): samples: 500 of 1,500 images, " in line
    assert "images/s, 0:0" in line
    assert line.endswith(" left")


@pytest.mark.usefixtures("fast_clock")
def test_work_that_counts_nothing_prints_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("t-SNE of 2,000 latents"):
        assert "t-SNE of 2,000 latents: 0:0" in wait_for("t-SNE", capsys)


@pytest.mark.usefixtures("fast_clock")
def test_the_outer_work_speaks_again_after_the_inner_one_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("outer"):
        with pytest.raises(KeyError), ProgressLine("inner"):
            raise KeyError
        assert "outer: 0:0" in wait_for("outer: 0:0", capsys)


@pytest.mark.usefixtures("fast_clock")
def test_other_ranks_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressLine("samples", 10, quiet=True) as progress:
        progress.update(5)
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_the_time_left_shrinks_between_updates() -> None:
    with ProgressLine("report", 3, "runs", quiet=True) as progress:
        progress._start_sec -= 60
        progress.update()
        assert progress.line().endswith(", 2:00 left")
        progress._updated_sec -= 45
        progress._start_sec -= 45
        assert progress.line().endswith(", 1:15 left")


def test_a_stage_that_is_named_after_its_one_step_is_named_once() -> None:
    stage = "features of test"
    with (
        ProgressLine("report", quiet=True),
        ProgressLine(stage, quiet=True),
        ProgressLine(stage, 400, quiet=True) as progress,
    ):
        progress.update(100)
        assert progress.line().startswith("report: features of test: 100 of 400 images, ")


def test_bytes_have_units() -> None:
    with ProgressLine("weights.pth", 90_000_000, "B", initial=45_000_000) as progress:
        progress.update(9_000_000)
        assert progress.line().startswith("weights.pth: 54.0M of 90.0M B, ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with ProgressLine("latents of test", 40) as progress:
        progress.update(20)
        progress._bar.refresh()
        assert "latents of test:  50%" in terminal.getvalue()
        assert "20/40" in terminal.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(6.6, "0:07"), (754, "12:34"), (3723, "1:02:03")])
def test_durations_read_as_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text
