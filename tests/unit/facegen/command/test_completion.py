"""Shell completion, by a bash that has loaded the script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from facegen import completion
from facegen.command import COMMANDS


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [])
        chosen = ("pack", "inspect", "train", "studio")
        patch.setattr(completion, "COMMANDS", {name: COMMANDS[name] for name in chosen})
        path = tmp_path_factory.mktemp("completion") / "facegen.bash"
        path.write_text(completion.script("bash"))
    return path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("facegen in", "inspect"),
        ("facegen inspect d --max", "--max_images"),
        ("facegen pack synth", "synthetic"),
        ("facegen train vae_", "vae_gan"),
        ("facegen train vae --optim.name adamw --optim.sched", "--optim.schedule"),
        ("facegen train vae --optim.name adam", "adam adamw"),
        ("facegen studio --sha", "--share"),
    ],
)
def test_bash_completes_commands_options_and_choices(bash_script: Path, line: str, found: str) -> None:
    code = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_facegen; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code, bash_script, *line.split()], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (found, 0), done.stderr


def test_without_shtab_a_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(completion, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        completion.cli.run(lambda: completion.main(["bash"]))
    assert capsys.readouterr().err == "error: completion needs shtab; install: pip install 'facegen[completion]'\n"
