"""Every command, option, link and name in the README and the pages under docs/ is one that there is."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

import facegen.config
from documents import (
    DOCS,
    LINKING_PAGES,
    PAGES,
    ROOT,
    TUTORIALS,
    Command,
    anchors,
    blocks,
    commands,
    first_column,
    links,
    section,
    shell_lines,
    spans,
    tutorial_commands,
)
from eval.demo import DemoConfig
from eval.demo import commands as demo_commands
from eval.reports.registry import PARTS
from facegen.command import COMMANDS
from facegen.families import FAMILIES
from facegen.samplers import SAMPLERS
from launch_files import facegen_commands
from shards.command_line import cli
from shards.sources import SOURCES
from tests.campaigns.areas import AREAS
from tiny_runs import untrained_run

README = ROOT / "README.md"
TRAIN = "facegen/train.py"
OTHER_PROGRAMS = {"source", "tensorboard", "curl", "ray", "sbatch", "docker", "kubectl", ".venv/bin/pre-commit"}
PLACEHOLDERS = {"RANK": "0"}
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for room in ("shards", "facegen", "eval", "tuning")
    for path in [*(ROOT / room).glob("*.py"), *(ROOT / room).glob("*/__main__.py")]
    if '__name__ == "__main__"' in path.read_text() and path != ROOT / "facegen" / "__main__.py"
)
COMMAND_LINES = list({command.words: command for page in PAGES for command in commands(page)}.values())
TUTORIAL_LINES = [command for tutorial in TUTORIALS for command in tutorial_commands(tutorial)]


class Parsed(BaseException):
    """Ends a command behind its parser; not an ``Exception``, which it might handle."""


def parse_only(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command of a room until its options are parsed, and raises ``Parsed``."""
    if module == "facegen.train":
        facegen.config.parse_args(words)
        raise Parsed
    entry = importlib.import_module(f"{module}.__main__" if module == "eval.studio" else module)
    entry = sys.modules[entry.__name__]  # The package may publish a function under the command's name.

    def parse(*args: object, **options: object) -> None:
        original(*args, **options)
        raise Parsed

    original = cli.parse
    for owner in (cli, entry):
        if hasattr(owner, "parse"):
            monkeypatch.setattr(owner, "parse", parse)
    monkeypatch.setattr(sys, "argv", [module, *words])
    entry.main()


def check_module(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert module in MODULES, f"{module} is not a command"
    if words and "..." not in words:
        with pytest.raises(Parsed):
            parse_only(module, words, monkeypatch)
    if module == "tuning.sweep" and words and not words[0].isupper() and not words[0].endswith(".yaml"):
        assert (ROOT / "tuning" / "spaces" / f"{words[0]}.yaml").is_file(), f"there is no space {words[0]}"


def check_launch(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    launched = launch_command_parser().parse_args([PLACEHOLDERS.get(word, word) for word in words])
    if launched.config_file is not None:
        assert (ROOT / launched.config_file).is_file()
    name, rest = launched.training_script, launched.training_script_args
    assert launched.module or name == TRAIN
    if rest[:1] != ["FAMILY"]:
        check_module(name if launched.module else "facegen.train", rest, monkeypatch)


def check(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asserts that a command line is one that works, as far as that can be said without running it."""
    for word in words:
        if re.match(r"(jobs|tests|facegen|docs)/.*\.\w+$", word):
            assert (ROOT / word).exists(), f"there is no {word}"
    match words:
        case ["python", "-m", "tests.campaigns", area, *_]:
            assert area in AREAS
        case ["python", "-m", module, *_] if module.startswith("tests."):
            assert importlib.util.find_spec(module) is not None
        case ["python", "-m", module, *rest]:
            check_module(module, rest, monkeypatch)
        case ["facegen", "--help"]:
            pass
        case ["facegen", "train", "sharp_vae", *_]:
            pass  # A plug-in that its tutorial installs.
        case ["facegen", name, *rest]:
            assert name in COMMANDS, f"there is no command {name}"
            if rest[:1] == ["--launch"]:
                launch_command_parser().parse_args([*rest[1].split(), "script"])
                rest = rest[2:]
            check_module(COMMANDS[name].module, rest, monkeypatch)
        case ["python", "facegen/train.py", family, "--help"]:
            assert family in FAMILIES
        case ["python", script, *_]:
            assert (ROOT / script).is_file()
        case ["accelerate", "config" | "launch"]:
            pass
        case ["accelerate", "launch", *rest]:
            check_launch(rest, monkeypatch)
        case ["make", *targets]:
            known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(known)
        case ["pip", "install", *packages]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            for named in re.findall(r"\[([\w,]+)\]", " ".join(packages)):
                assert set(named.split(",")) <= set(extras)
        case [program, *_]:
            assert program in OTHER_PROGRAMS, f"nobody checks commands of {program}"


@pytest.mark.parametrize("command", [*COMMAND_LINES, *TUTORIAL_LINES], ids=str)
def test_a_command_is_taken_by_its_parser(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        check(list(command.words), monkeypatch)
    except SystemExit:
        pytest.fail(f"{command}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("words", facegen_commands(), ids=" ".join)
def test_a_command_in_a_launch_file_is_taken_by_its_parser(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        check(words, monkeypatch)
    except SystemExit:
        pytest.fail(f"{words}\n{capsys.readouterr().err}")


@pytest.mark.parametrize(
    "line",
    [
        "python -m shards.pack synthetic data/faces --num_images 4000",
        "python -m shards.pack synthetik data/faces",
        "python -m shards.pact synthetic data/faces",
        "python -m eval.report runs/vae --data data/faces --out report --splits test",
        "python -m tuning.sweep kld_and_gamma --data data/faces --out sweep",
        "accelerate launch facegen/train.py vae --config vae_dema --data data/faces --run runs/vae",
        "accelerate launch facegen/train.py vae --data data/faces --run runs/vae --lr 1",
        "accelerate launch --config_files jobs/accelerate/cpu.yaml facegen/train.py vae --data data --run runs/vae",
        "accelerate launch --config_file jobs/accelerate/no.yaml facegen/train.py FAMILY ...",
        "make everything",
        "pip install facegen[alin]",
        "facegen pakc synthetic data/faces",
        "facegen pack synthetic data/faces --nums 3",
        "facegen train --launch --num_processor=2 vae --data data/faces --run runs/vae",
    ],
)
def test_a_command_that_does_not_work_is_found(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, SystemExit, cli.UserError)):
        check(line.split(), monkeypatch)


@pytest.fixture(scope="module")
def known_options() -> Iterator[set[str]]:
    """The options of all commands, and of the launcher."""
    parsers = []

    class Recorded(cli.Parser):
        def parse_args(self, *args: object, **options: object) -> None:  # type: ignore[override]
            parsers.append(self)
            raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "Parser", Recorded)
        for module in MODULES:
            names = {"shards.pack": SOURCES, "facegen.train": FAMILIES, "facegen.fit_sampler": SAMPLERS}.get(module)
            names = names or {
                "shards.label": ["serve", "export"],
                "eval.attributes": ["fit", "apply", "measure"],
                "facegen.jobs": ["list", "copy"],
            }.get(module, ["-"])
            for name in names:
                with pytest.raises(Parsed):
                    parse_only(module, [name, "-"], patch)
    options = {f"--{name}" for parser in parsers for name in parser.known_options()}
    options |= {name for action in launch_command_parser()._actions for name in action.option_strings}
    yield options | {"--help", "--print_config", "--launch", "--cpus-per-task"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_option_that_a_page_names_exists(page: Path, known_options: set[str]) -> None:
    words = {word.split("=")[0] for span in spans(page) if span.startswith("--") for word in span.split()}
    named = {word for word in words if word.startswith("--") and not word.endswith(".*")}
    assert named <= known_options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_a_page_names_exists(page: Path) -> None:
    paths = {
        span for span in spans(page) if re.fullmatch(r"(shards|facegen|eval|tuning|jobs|tests|docs)/[\w./-]+", span)
    }
    assert {path for path in paths if not (ROOT / path).exists() and "NAME" not in path} == set()


@pytest.mark.parametrize("page", LINKING_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {link}"


def imported_names(code: str) -> Iterator[tuple[str, str]]:
    """The module and name of each import of a code block, and of each attribute of an imported room."""
    tree = ast.parse(code)
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            rooms |= {alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms:
            yield node.value.id, node.attr


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page.read_text(), "python")], ids=lambda page: page.name
)
def test_python_uses_names_that_exist(page: Path) -> None:
    for code in blocks(page.read_text(), "python"):
        for module, name in imported_names(code):
            assert hasattr(importlib.import_module(module), name), f"{page.name}: {module} has no {name}"


def test_the_python_of_the_readme_runs(tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "faces").symlink_to(tiny_dataset)
    untrained_run(tmp_path / "runs" / "vae", tiny_dataset)
    [code] = blocks(README.read_text(), "python")
    assert len([line for line in code.split("\n") if line]) <= 10
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["copies"].shape == names["images"].shape == (16, 16, 16, 3)
    assert names["new"].shape == (16, 3, 16, 16)


def test_the_quick_start_packs_and_trains_what_the_demo_does() -> None:
    pack, train, *_ = shell_lines(section(README, "## Quick start"))
    demo = " ".join(word for words in demo_commands(DemoConfig()) for word in words)
    for words in (pack, train):
        options = [option for option in " ".join(words).split(" --")[1:] if "/" not in option]
        assert options and [option for option in options if f"--{option}" not in demo] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text().split("\n")) <= 150


def test_the_readme_lists_every_command() -> None:
    table = section(README, "## Commands")
    assert first_column(table) == set(COMMANDS)
    assert set(MODULES) <= {name.replace("/", ".").removesuffix(".py") for name in re.findall(r"`([\w./]+)`", table)}


def test_the_readme_lists_every_family() -> None:
    assert first_column(section(README, "## Families")) == set(FAMILIES)


def test_the_readme_lists_every_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert first_column(section(README, "## Install")) == set(extras)


def test_the_pages_list_every_name_of_a_registry() -> None:
    training = section(DOCS / "training.md", "## Families")
    assert first_column(training) == set(FAMILIES)
    presets = {path.stem for path in facegen.config.PRESETS.glob("*.yaml")}
    assert presets <= set(re.findall(r"`([\w.]+)`", training))
    assert first_column(section(DOCS / "training.md", "## Samplers")) == set(SAMPLERS)
    assert first_column(section(DOCS / "data.md", "### Sources")) == set(SOURCES)
    assert first_column(section(DOCS / "evaluation.md", "## Parts")) == set(PARTS)
    spaces = {path.stem for path in (ROOT / "tuning" / "spaces").glob("*.yaml")}
    assert first_column(section(DOCS / "sweeps.md", "## Spaces")) == spaces


def test_the_site_builds_without_a_broken_link(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r'<(script|img)[^>]* src="http|<link[^>]* href="http', page.read_text()), page
