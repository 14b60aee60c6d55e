"""The command line of training: overrides, files, and one clear sentence for each mistake."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from facegen.config import parse_args
from facegen.option_values import to_dict
from facegen.processes import group
from facegen.runs.config_file import save_config
from shards.base.errors import ENDING, UserError
from shards.command_line.cli import fail, from_values, parse
from shards.command_line.keywords import from_keywords

ROOT = Path(__file__).parents[4]
NEEDED = ["--data", "d", "--run", "r"]


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)) + "optim: *a59"


def sentence_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a bad command line is answered with, behind exit code 2."""
    with pytest.raises(SystemExit) as exit_info:
        parse_args(args)
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--lr", "0.1"], ["'lr'", "'optim.lr'"]),
        (["--optim.lrr", "0.1"], ["'optim.lrr'", "'optim.lr'"]),
        (["--kld_wieght", "1"], ["'kld_wieght'", "'model.kld_weight'"]),
        (["--optim.lr", "fast"], ["optim.lr", "float", "fast"]),
        (["--optim.name", "sgd"], ["optim.name", "adam", "sgd"]),
        (["--max_steps", "2.5"], ["max_steps", "2.5"]),
        (["--dry_run", "perhaps"], ["dry_run", "perhaps"]),
        (["--model.network.widths", "[]"], ["widths"]),
        (["--checkpoint.keep", "1"], ["checkpoint.keep", "at least 2"]),
        (["--config", "ae_lfw"], ["family", "vae", "ae"]),
        (["--model=-1"], ["'model' is a section of options", "-1"]),
        (["--model.network", "[1]"], ["'model.network' is a section of options", "[1]"]),
        (["--seed", "9" * 400], ["'seed'", "64 bits"]),
        (["--ema.ramp_up", "nan"], ["ema.ramp_up", "nan"]),
        (["--max_epochs", "1e300"], ["max_epochs", "1e+300"]),
        (["--loader.num_threads", "1000000000"], ["loader.num_threads"]),
        (["--model.network.residual_blocks", "1000000000"], ["residual_blocks"]),
    ],
)
def test_mistakes(args: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sentence = sentence_of(["vae", *NEEDED, *args], capsys)
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("optim: {lrr: 0.1}", ["lrr", "optim.lr"]),
        ("optim: {lr: fast}", ["optim.lr", "fast"]),
        ("kld_weight: 3", ["kld_weight", "model.kld_weight"]),
        ("optim: [", ["is not YAML"]),
        ("optim: -1", ["'optim' is a section of options", "-1"]),
        ("model: -1", ["'model' is a section of options", "-1"]),
        ("model:", ["'model' is a section of options", "None"]),
        ("model: {network: 3}", ["'model.network' is a section of options", "3"]),
        ("model: {netz: {}}", ["there is no option 'model.netz'"]),
        ("seed: null", ["'seed' cannot be null"]),
        ("seed: " + "9" * 5000, ["is not YAML", "5000 digits"]),
        ("when: 2020-13-45", ["month"]),
        ("data: !!timestamp x", ["is not YAML"]),
        ("optim: &a {lr: *a}", ["the alias *a contains itself"]),
        (BOMB, ["more than 100,000 values"]),
        (b"data: \xff", ["is not UTF-8 (byte 6)"]),
    ],
)
def test_mistakes_in_a_file(
    content: str | bytes, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sentence = sentence_of(["vae", "--config", str(path), *NEEDED], capsys)
    for word in words:
        assert word in sentence


def test_aliases_that_repeat_little_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {network: {widths: &w [4, 8]}}\nloader: {num_threads: &n 1}\nseed: *n\n")
    config = parse_args(["vae", "--config", str(tmp_path / "c.yaml"), *NEEDED])
    assert (config.seed, config.model.network.widths) == (1, [4, 8])


def test_an_unknown_family_gets_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = sentence_of(["vea", *NEEDED], capsys)
    assert "vea" in sentence and "beta_vae" in sentence


@pytest.mark.parametrize("missing", ["data", "run"])
def test_data_and_run_are_required(missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [option for option in ("data", "run") if option != missing]
    assert missing in sentence_of(["vae", f"--{given[0]}", "x"], capsys)


@pytest.mark.parametrize(
    ("args", "dry_run", "flip"),
    [
        ([], False, True),
        (["--dry_run"], True, True),
        (["--dry_run=false"], False, True),
        (["--dry_run", "--augment.flip", "false"], True, False),
    ],
)
def test_flags_with_and_without_a_value(args: list[str], dry_run: bool, flip: bool) -> None:
    config = parse_args(["vae", *NEEDED, *args])
    assert (config.dry_run, config.augment.flip) == (dry_run, flip)


def test_options_win_over_files_and_files_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("optim: {lr: 0.5, warmup_images: 7}\nmodel: {latent_size: 9, network: {widths: [4, 8]}}\n")
    config = parse_args(["vae", "--config", str(path), *NEEDED, "--optim.lr", "0.25"])
    assert (config.optim.lr, config.optim.warmup_images) == (0.25, 7)
    assert (config.model.latent_size, config.model.network.widths) == (9, [4, 8])
    assert config.model.network.kernel_size == 4


def test_printed_config_gives_the_same_config_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["beta_vae", "--config", "beta_vae_10", *NEEDED, "--optim.betas", "[0.5,0.9]", "--max_epochs", "1.5"]
    with pytest.raises(SystemExit) as exit_info:
        parse_args([*args, "--print_config"])
    assert exit_info.value.code == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert yaml.safe_load(path.read_text())["model"]["kld_weight"] == 10.0
    assert to_dict(parse_args(["beta_vae", "--config", str(path)])) == to_dict(parse_args(args))


def test_the_config_in_a_run_directory_trains_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    args = ["vae", "--data", "d", "--run", str(tmp_path / "run"), "--optim.betas", "[0.5,0.9]", "--max_steps", "3"]
    config = parse_args([*args, "--model.network.widths", "[4,8]"])
    save_config(config)
    again = parse_args(["vae", "--config", str(tmp_path / "run/config.yaml"), "--run", "elsewhere"])
    assert to_dict(again) == {**to_dict(config), "run": "elsewhere"}


def test_help_is_grouped_and_says_what_each_option_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_args(["vae", "--help"])
    assert exit_info.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "--optim.lr",
        "--model.kld_weight",
        "--model.network.widths",
        "Weight of the KL divergence",
        "--config",
    ):
        assert words in text


def test_the_entry_point_answers_bad_input_in_one_line(tmp_path: Path) -> None:
    """As a real process, started as ``accelerate launch`` does: by the path of the script, from another folder."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "facegen/train.py"), "vae", "--data", "nowhere", "--run", "run"],
        cwd=tmp_path,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("error: nowhere holds no complete data set")
    assert list(tmp_path.iterdir()) == []


@dataclass
class Lists:
    """Options that take several values."""

    run: str
    """By position."""
    files: list[str] = field(default_factory=list)
    """Texts."""
    steps: list[float] = field(default_factory=list)
    """Numbers."""


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("run --files a.jpg b.jpg --steps -1 .5 2e3", Lists("run", ["a.jpg", "b.jpg"], [-1, 0.5, 2000])),
        ("run --steps -1 -.5 --files a b", Lists("run", ["a", "b"], [-1, -0.5])),
        ("run --files [a,b] --steps=[1,2]", Lists("run", ["a", "b"], [1, 2])),
        ("run --files [a].jpg --files+ b", Lists("run", ["[a].jpg", "b"])),
        ("run --files 1 2", Lists("run", ["1", "2"])),
    ],
)
def test_list_options_take_several_words(args: str, expected: Lists) -> None:
    assert parse(Lists, prog="p", description="d", positional=["run"], args=args.split()) == expected


def test_a_list_option_without_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Lists, prog="p", description="d", positional=["run"], args=["run", "--files", "--steps", "1"])
    assert "files" in capsys.readouterr().err


def test_an_error_that_one_process_finds_is_printed_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("no memory on this process.")

    train = importlib.import_module("facegen.train")  # facegen.train is the function.
    waited: list[float] = []
    monkeypatch.setattr(group.time, "sleep", waited.append)
    monkeypatch.setattr(train, "Trainer", refuse)
    monkeypatch.setattr(train.preemption, "ignore_stop", lambda: None)
    monkeypatch.setattr(sys, "argv", ["train.py", "ae", "--data", str(tmp_path), "--run", str(tmp_path)])
    for rank in ("0", "3"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit) as ended:
            train.main()
        ENDING.clear()
        assert ended.value.code == 2
        assert capsys.readouterr().err == "error: no memory on this process.\n"
        # The launcher has ended this one by then where the first has said the same.
        assert (3 in waited) == (rank != "0")


def test_a_value_of_any_length_leaves_the_advice_readable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(f"there is no '{'x' * 100_000}'; give another.")
    line = capsys.readouterr().err
    assert len(line) < 1100 and line.startswith("error: there is no 'xxx") and line.endswith("give another.\n")


@dataclass
class Place:
    """A path, texts and numbers."""

    folder: Path | None = None
    """A folder."""
    name: str = ""
    """A name."""
    size: int = 1
    """A number."""
    sizes: int | list[int] = 1
    """Numbers."""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--folder", ""], "option 'folder' must not be empty; the current folder is '.'."),
        (["--folder="], "option 'folder' must not be empty; the current folder is '.'."),
        ([""], "an argument is empty; leave it out, or give a value."),
        (["--size", "1:30"], "option 'size' must be a number, not 1:30."),
        (["--sizes=1:30"], "option 'sizes' must be a number, not 1:30."),
        (["--config", "size: 1:30"], "1:30 is a number of base 60"),
        (["--config", "folder: ''"], "option 'folder' must not be empty; the current folder is '.'."),
    ],
)
def test_texts_that_would_mean_something_else(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(Place, prog="p", description="d", args=args)
    assert message in capsys.readouterr().err


def test_texts_that_mean_what_they_say() -> None:
    assert parse(Place, prog="p", description="d", args=["--name", "", "--folder", "."]) == Place(Path("."))
    assert parse(Place, prog="p", description="d", args=["--name", "1:30"]) == Place(name="1:30")
    assert from_values(Place, {"name": "1:30"}, "file") == Place(name="1:30")
    with pytest.raises(UserError, match="option 'folder' must not be empty"):
        from_values(Place, {"folder": ""}, "file")
    with pytest.raises(UserError, match="option 'folder' must not be empty"):
        from_keywords(Place, {"folder": ""})
