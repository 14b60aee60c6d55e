"""The command ``facegen``: it knows every command module, and runs it as ``python -m`` would."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from facegen import command
from facegen.command import COMMANDS, ENTRY
from shards.command_line import naming

ROOMS = ("shards", "facegen", "eval", "tuning")
ROOT = ENTRY.parents[1]


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "_names", {})
    monkeypatch.setattr(sys, "argv", ["facegen"])
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_every_command_module_has_a_name() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).glob("*.py")]
    files += [path for room in ROOMS for path in (ROOT / room).glob("*/__main__.py")]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in files
        if '__name__ == "__main__"' in path.read_text() and path != ENTRY
    }
    assert {command.module for command in COMMANDS.values()} == modules


def test_the_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    words = " ".join(lines).split()
    assert set(COMMANDS) <= set(words)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trainx", "there is no command 'trainx'; did you mean 'train'?"),
        ("attributes", "there is no command 'attributes'; did you mean 'edit'?"),
        ("tuning.report", "there is no command 'tuning.report'; did you mean 'sweep_report'?"),
        ("xyzzy", "there is no command 'xyzzy'; see facegen --help."),
    ],
)
def test_a_misspelled_command_is_one_sentence(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([name])
    assert ended.value.code == 2 and capsys.readouterr().err == f"error: {sentence}\n"


def test_a_command_calls_itself_and_others_as_the_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["pack", "--help"])
    assert ended.value.code == 0 and capsys.readouterr().out.startswith("usage: facegen pack SOURCE [options]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.main(["inspect", "nowhere"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "make one with: facegen pack " in error and "python -m" not in error


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("make one with: python -m eval.report.", "make one with: facegen report."),
        ("python -m\n  shards.pack, or python -m shards.packing", "facegen pack, or python -m shards.packing"),
        ("accelerate launch facegen/train.py vae", "facegen train vae"),
        ("/elsewhere/facegen/train.py", "/elsewhere/facegen/train.py"),
    ],
)
def test_texts_name_commands_as_they_are_called(text: str, called: str) -> None:
    assert naming.as_called(text) == text
    naming.call(command.spellings())
    assert naming.as_called(text) == called


@pytest.mark.parametrize("arguments", [["--help"], ["pakc"], ["train", "vae", "--max_epoch", "1"]])
def test_help_and_typos_import_no_torch(arguments: list[str]) -> None:
    run = [sys.executable, "-X", "importtime", str(ENTRY), *arguments]
    done = subprocess.run(run, capture_output=True, text=True)
    assert " torch\n" not in done.stderr and " numpy\n" not in done.stderr
    assert done.returncode == (0 if arguments == ["--help"] else 2)


def test_folders_of_the_user_are_not_imported(tmp_path: Path) -> None:
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(f"raise SystemExit('{room} of the user')")
    for start in ([str(ENTRY)], ["-P", str(ENTRY)]):
        done = subprocess.run(
            [sys.executable, *start, "jobs", "copy", "slurm", "."],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "train.sbatch").is_file()


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What accelerate would have started."""
    started: list[list[str]] = []
    launch = types.ModuleType("accelerate.commands.launch")
    launch.main = lambda: started.append([*sys.argv])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, launch.__name__, launch)
    monkeypatch.setattr("facegen.processes.launcher._has_accelerator", lambda: False)
    monkeypatch.setattr("accelerate.commands.config.config_args.default_config_file", "nowhere.yaml")
    return started


def test_accelerate_starts_the_command_in_several_processes(
    launched: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = ROOT / "jobs" / "accelerate"
    program = [str(ENTRY), "train", "vae", "--run", "r"]
    command.main(["train", "--launch", "--num_processes 2", "vae", "--run", "r"])
    command.main(["train", "vae", "--run", "r", "--launch=--config_file=gpus --num_processes 2"])
    command.main(["train", "vae", "--launch", "--config_file 'my file.yaml'", "--run", "r"])
    monkeypatch.setattr("facegen.processes.launcher._has_accelerator", lambda: True)
    command.main(["train", "--launch", "", "vae", "--run", "r"])
    assert [words[1:] for words in launched] == [
        ["--config_file", str(shipped / "cpu_processes.yaml"), "--num_processes", "2", *program],
        ["--config_file", str(shipped / "gpus.yaml"), "--num_processes", "2", *program],
        ["--config_file", "my file.yaml", *program],
        program,
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pack", "--launch", "", "synthetic"], "facegen pack runs in one process"),
        (["train", "vae", "--launch"], "--launch needs the options of accelerate launch"),
    ],
)
def test_a_launch_that_cannot_be_is_one_sentence(
    arguments: list[str], words: str, launched: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2 and words in capsys.readouterr().err and launched == []
