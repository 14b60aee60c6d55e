"""The demo runs its commands one after the other, and ends with the first that fails."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from eval import demo
from facegen.command import ENTRY


def test_the_demo_runs_its_commands_until_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes, started = [0, 0, 0, 0, 143], []

    def start(words: list[str]) -> SimpleNamespace:
        started.append(words)
        return SimpleNamespace(returncode=codes.pop(0))

    monkeypatch.setattr(subprocess, "run", start)
    demo.main(["--out", "my demo", "--max_images", "100"])
    assert [words[:3] for words in started] == [
        [sys.executable, str(ENTRY), name] for name in ("pack", "train", "report")
    ]
    printed = capsys.readouterr().out
    assert "$ facegen train vae --config vae_demo --data 'my demo/data' --run 'my demo/run' --max_images 100" in printed
    with pytest.raises(SystemExit) as ended:
        demo.main([])
    assert ended.value.code == 143 and len(started) == 5


def test_an_interrupted_demo_ends_as_a_shell_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(words: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    with pytest.raises(SystemExit) as ended:
        demo.main([])
    assert ended.value.code == 130
