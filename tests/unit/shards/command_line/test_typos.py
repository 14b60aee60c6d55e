"""Misspelled options are refused before the imports that take seconds; right ones go on to the parser."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shards.command_line.typos import refuse_typos

ROOT = Path(__file__).parents[4]


@dataclass
class Section:
    rate: float = 0.1
    rates: dict[str, float] = field(default_factory=dict)


@dataclass
class Config:
    data: str
    rows: list[int] = field(default_factory=list)
    optim: Section = field(default_factory=Section)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dta", "x"], "there is no option 'dta'; did you mean 'data'?"),
        (["--data", "x", "--optim.rat=3"], "there is no option 'optim.rat'; did you mean 'optim.rate'?"),
        (["--rate=3"], "there is no option 'rate'; did you mean 'optim.rate'?"),
        (["--quux"], "there is no option 'quux'; --help lists them all."),
        (["--optimizer.quux.wobble", "3"], "there is no option 'optimizer.quux.wobble'; --help lists them all."),
    ],
)
def test_a_typo_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        refuse_typos(Config, arguments)
    assert ended.value.code == 2 and capsys.readouterr().err == f"error: {sentence}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data=x", "--rows", "1", "-2", "--rows+", "3", "--optim.rate", "-.5", "--optim.rates.encoder", "3"],
        ["--config", "file.yaml", "--print_config", "--optim", "{rate: 3}"],
        ["-h"],
        ["--help"],
    ],
)
def test_right_options_pass(arguments: list[str]) -> None:
    refuse_typos(Config, arguments)


def test_names_of_sections_that_are_not_loaded_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_typos(Config, ["--model.width", "3", "--width", "3"], unseen=["model"])
    with pytest.raises(SystemExit):
        refuse_typos(Config, ["--dta", "3"], unseen=["model"])
    monkeypatch.setenv("LOCAL_RANK", "1")
    refuse_typos(Config, ["--dta", "3"])


@pytest.mark.parametrize(
    "command",
    [
        ["facegen/train.py", "vae", "--max_epoch", "1"],
        ["-m", "eval.report", "run", "--splt", "val"],
        ["-m", "eval.studio", "run", "--prt", "80"],
        ["-m", "tuning.sweep", "kld_asha", "--max_image", "1"],
    ],
)
def test_no_program_imports_torch_to_find_a_typo(command: list[str]) -> None:
    done: Any = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    error = done.stderr.decode()
    assert done.returncode == 2 and "did you mean" in error
    assert "jsonargparse" in error and " torch\n" not in error
