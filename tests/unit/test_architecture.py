"""Rules of the whole project that no single module can check: who may import whom, and names that would clash."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from facegen.families import FAMILIES

ROOT = Path(__file__).parents[2]
ROOMS = ("shards", "facegen", "eval", "tuning")
"""A room may import from those before it."""
_PICKLERS = ("pickle", "dill", "cloudpickle", "joblib")


def sources(*rooms: str) -> Iterator[tuple[Path, str]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()


def imported_modules(path: Path, source: str) -> list[str]:
    """Absolute names of everything that a file imports, wherever in the file."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.parent.parts[: len(path.parent.parts) - node.level + 1] if node.level else ()
            modules.append(".".join((*package, node.module or "")))
    return modules


def wrong_imports(path: Path, source: str) -> list[str]:
    allowed = ROOMS[: ROOMS.index(path.parts[0]) + 1]
    forbidden = (set(ROOMS) | {"tests", "jobs"}) - set(allowed)
    return [module for module in imported_modules(path, source) if module.split(".")[0] in forbidden]


def unsafe_loading(source: str) -> list[str]:
    """Calls that would run code from a file: pickle and its like, torch.load and numpy.load that allow it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in _PICKLERS:
            found += [alias.name for alias in node.names if alias.name.startswith(("load", "Unpickler"))]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called.split(".")[0] in _PICKLERS and called.split(".")[-1] in (
            "load",
            "loads",
            "Unpickler",
        ):
            found.append(called)
        if called in ("torch.load", "torch.hub.load_state_dict_from_url") and keywords.get("weights_only") != "True":
            found.append(called)
        if keywords.get("allow_pickle") == "True":
            found.append(called)
    return found


def family_branches(source: str) -> list[str]:
    """Comparisons with the name of a family."""

    def names_one(node: ast.AST) -> bool:
        return any(isinstance(part, ast.Constant) and part.value in FAMILIES for part in ast.walk(node))

    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Compare, ast.match_case)) and names_one(getattr(node, "pattern", node))
    ]


def test_imports_go_one_way() -> None:
    checked = list(sources(*ROOMS))
    assert len(checked) > 30
    assert {str(path): wrong for path, source in checked if (wrong := wrong_imports(path, source))} == {}


@pytest.mark.parametrize(
    ("path", "source", "is_wrong"),
    [
        ("shards/a.py", "import facegen.losses.vae", True),
        ("shards/a.py", "def f():\n    from facegen import losses", True),
        ("shards/sources/a.py", "from ...facegen import losses", True),
        ("facegen/a.py", "import eval.report as r", True),
        ("facegen/a.py", "from tests.conftest import x", True),
        ("eval/a.py", "from tuning import sweep", True),
        ("facegen/a.py", "from shards.base.cli import UserError\nfrom facegen import losses", False),
        ("tuning/a.py", "import eval.report, facegen, shards", False),
        ("eval/metrics/a.py", "from . import b\nfrom ..figures import c", False),
    ],
)
def test_a_wrong_import_would_be_found(path: str, source: str, is_wrong: bool) -> None:
    assert bool(wrong_imports(Path(path), source)) == is_wrong


def test_no_file_of_facegen_hides_another_module() -> None:
    # `accelerate launch facegen/train.py` puts facegen/ first on sys.path.
    own = {"facegen", "shards", "eval", "tuning", "jobs", "tests"}
    others = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions()) - own
    assert {"json", "torch", "random", "yaml"} <= others
    names = {path.stem for path in (ROOT / "facegen").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert len(names) > 15
    assert names & others <= {"__init__", "__pycache__"}


def test_nothing_is_unpickled() -> None:
    assert {str(path): found for path, source in sources(*ROOMS) if (found := unsafe_loading(source))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "x = pickle.loads(data)",
        "pickle.Unpickler(file).load()",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_unpickling_would_be_found(source: str) -> None:
    assert unsafe_loading(source)
    assert not unsafe_loading("torch.load(path, weights_only=True)\nnumpy.load(path)\nsafetensors.torch.load(data)")


def test_only_the_registry_knows_families_by_name() -> None:
    found = {
        str(path): branches
        for path, source in sources("facegen", "eval", "tuning")
        if path.parts[:2] != ("facegen", "families") and (branches := family_branches(source))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'if config.family == "vae": pass',
        'x = 1 if family in ("ae", "vae") else 2',
        'match family:\n    case "beta_vae":\n        pass',
    ],
)
def test_a_branch_on_a_family_would_be_found(source: str) -> None:
    assert family_branches(source)
    assert not family_branches('if "sample" in family.can: print("vae")')


def test_every_file_of_code_is_short_enough_to_read() -> None:
    assert {
        str(path): len(source.splitlines()) for path, source in sources("facegen") if len(source.splitlines()) > 400
    } == {}
