"""Rules of the whole project that no single module can check: who may import whom, and names that would clash."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

from facegen.families import FAMILIES

ROOT = Path(__file__).parents[2]
ROOMS = ("shards", "facegen", "eval", "tuning")
"""A room may import from those before it."""
ORDER: dict[str, tuple[str, ...]] = {
    "shards": (
        "base",
        "command_line execution",
        "dataset downloads serving",
        "images",
        "sources loading",
        "card",
        "packing",
        "labeling",
        "align copy fetch index inspect label pack",
        "push_data",
    ),
    "facegen": (
        "degrees devices option_values pixels randomness options",
        "networks processes runs",
        "losses",
        "perceptual",
        "latents",
        "families",
        "samplers",
        "config sharing",
        "trained",
        "model",
        "optimization",
        "reporting",
        "training",
        "command fit_sampler jobs train",
        "completion __main__",
    ),
    "eval": (
        "base metrics",
        "drawing factors features stand_ins",
        "latent",
        "biases controls exporting verification",
        "reports",
        "sharing",
        "attributes morph neighbors sample smile traverse tsne",
        "bias control demo disentanglement export push verify weights report studio",
    ),
    "tuning": (
        "extra ledger search sweep_config",
        "trials",
        "driver reports",
        "report",
        "sweep",
    ),
}
"""The folders and top-level modules of each room, level by level: one may import from the levels before its own."""
SHARED_FILE_NAMES = {
    "__init__": "packages",
    "__main__": "packages that are commands",
    "base": "the interface that the other files of its folder implement",
    "options": "the config dataclasses of its folder",
    "face_cnn": "a family and its network",
    "vae": "a family and its loss",
    "pack": "a command and its function",
    "report": "a command of eval and one of tuning",
    "source": "a data set in a folder of its own",
    "smile": "the network, and the command that uses it",
}
"""File names that several folders may use, and why they are the same idea."""
LATENT_TOOLS = Path("eval/latent/tools")
"""Each file is named after its command."""
REPORT_PARTS = Path("eval/reports/parts")
"""Each file is named after what it shows."""
SHARED_CLASS_NAMES = {
    "Entry": "an entry of a registry",
}
"""Names that several public classes may have, and why they are the same idea."""
_PICKLERS = ("pickle", "dill", "cloudpickle", "joblib")


def sources(*rooms: str) -> Iterator[tuple[Path, str]]:
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT), path.read_text()


def imported_names(path: Path, tree: ast.AST) -> list[str]:
    """Absolute names of everything that a file imports, wherever in the file: modules, and names in modules."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.parent.parts[: len(path.parent.parts) - node.level + 1] if node.level else ()
            module = (*package, *([node.module] if node.module else []))
            names += [".".join((*module, alias.name)) for alias in node.names]
    return names


def wrong_imports(path: Path, source: str) -> list[str]:
    allowed = ROOMS[: ROOMS.index(path.parts[0]) + 1]
    forbidden = (set(ROOMS) | {"tests", "jobs"}) - set(allowed)
    return [name for name in imported_names(path, ast.parse(source)) if name.split(".")[0] in forbidden]


def module_name(path: Path) -> str:
    return ".".join(path.parent.parts if path.stem == "__init__" else path.with_suffix("").parts)


def import_graph(files: Mapping[Path, str]) -> dict[str, set[str]]:
    """What each module imports of the others, wherever in the file and for type checking, too."""
    modules = {module_name(path): path for path in files}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse(files[path])
        if path.parts[1:] == ("__init__.py",):
            # Type checkers follow these to the public names of the room; at run time they are loaded on first use.
            tree.body = [node for node in tree.body if ast.unparse(node).split("\n")[0] != "if TYPE_CHECKING:"]
        names = {name if name in modules else name.rpartition(".")[0] for name in imported_names(path, tree)}
        graph[module] = (names & modules.keys()) - {module}
    return graph


def find_circle(graph: Mapping[str, Set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty where there are none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def imports_against_the_order(graph: Mapping[str, Set[str]], room: str) -> list[str]:
    """Imports inside a room that do not lead from one level to an earlier one, and modules that have no level."""
    levels = {name: number for number, names in enumerate(ORDER[room]) for name in names.split()}
    # Folder or top-level file of each module; the room's own __init__ has no level.
    places = {module: module.split(".")[1] for module in graph if module.startswith(f"{room}.")}
    found = [f"{module} has no level" for module, place in places.items() if place not in levels]
    for module, imported in graph.items():
        for other in imported & places.keys() if module in places else ():
            here, there = places[module], places[other]
            if here != there and levels.get(here, 0) <= levels.get(there, 0):
                found.append(f"{module} -> {other}")
    return found


def undeclared_imports(files: Mapping[Path, str], declared: Set[str]) -> dict[str, list[str]]:
    """Third-party modules that belong to no declared distribution, by file."""
    distributions = importlib.metadata.packages_distributions()
    found = defaultdict(list)
    for path, source in files.items():
        for module in {name.split(".")[0] for name in imported_names(path, ast.parse(source))}:
            if module in sys.stdlib_module_names or module in ROOMS:
                continue
            # A package that is not installed here counts by the name that it is imported by.
            if not {normalized(name) for name in distributions.get(module, [module])} & declared:
                found[str(path)].append(module)
    return found


def normalized(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


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
        ("facegen/a.py", "from shards.command_line.cli import UserError\nfrom facegen import losses", False),
        ("tuning/a.py", "import eval.report, facegen, shards", False),
        ("eval/metrics/a.py", "from . import b\nfrom ..figures import c", False),
    ],
)
def test_a_wrong_import_would_be_found(path: str, source: str, is_wrong: bool) -> None:
    assert bool(wrong_imports(Path(path), source)) == is_wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = import_graph(dict(sources(*ROOMS)))
    assert len(graph) > 100
    assert find_circle(graph) == []


@pytest.mark.parametrize("room", ROOMS)
def test_folders_of_a_room_import_one_way(room: str) -> None:
    graph = import_graph(dict(sources(room)))
    assert sum(map(len, graph.values())) > 20
    assert imports_against_the_order(graph, room) == []


FILES = {
    Path("shards/__init__.py"): "if TYPE_CHECKING:\n    from shards.pack import pack",
    Path("shards/pack.py"): "from shards.base import printing\nfrom shards.loading import order",
    Path("shards/base/__init__.py"): "",
    Path("shards/base/printing.py"): "import json, shards.base.errors",
    Path("shards/base/errors.py"): "import threading",
    Path("shards/loading/order.py"): "import shards\nimport shards.base.printing",
    Path("shards/sources/lfw.py"): "",
}


def test_imports_are_found() -> None:
    graph = import_graph(FILES)
    assert graph["shards.pack"] == {"shards.base.printing", "shards.loading.order"}
    assert graph["shards.loading.order"] == {"shards", "shards.base.printing"}
    assert find_circle(graph) == imports_against_the_order(graph, "shards") == []


@pytest.mark.parametrize(
    "source",
    [
        "import shards.base.printing",
        "def f():\n    from . import printing",
        "if TYPE_CHECKING:\n    from .printing import fail",
    ],
)
def test_a_circle_would_be_found(source: str) -> None:
    graph = import_graph(FILES | {Path("shards/base/errors.py"): source})
    assert set(find_circle(graph)) == {"shards.base.printing", "shards.base.errors"}


@pytest.mark.parametrize("module", ["shards.base.errors", "shards.loading.order"])
def test_an_import_against_the_order_would_be_found(module: str) -> None:
    path = Path(*module.split(".")).with_suffix(".py")
    graph = import_graph(FILES | {path: "def later():\n    from shards.sources.lfw import LfwSource"})
    assert find_circle(graph) == []
    assert imports_against_the_order(graph, "shards") == [f"{module} -> shards.sources.lfw"]


def test_a_folder_without_a_level_would_be_found() -> None:
    graph = import_graph(FILES | {Path("shards/new/a.py"): ""})
    assert imports_against_the_order(graph, "shards") == ["shards.new.a has no level"]


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [requirements for name, requirements in project["optional-dependencies"].items() if name != "dev"]
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    declared = {normalized(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}  # type: ignore[index]
    files = dict(sources(*ROOMS, "jobs"))
    assert undeclared_imports(files, declared) == {}
    assert undeclared_imports(files, declared - {"webdataset"}) == {"shards/dataset/tar.py": ["webdataset"]}


def test_files_that_share_a_name_are_the_same_idea() -> None:
    paths = defaultdict(list)
    for path, _ in sources(*ROOMS):
        if path.parent not in (LATENT_TOOLS, REPORT_PARTS):
            paths[path.stem].append(str(path))
    assert {name: found for name, found in paths.items() if len(found) > 1 and name not in SHARED_FILE_NAMES} == {}


def test_public_classes_that_share_a_name_are_the_same_idea() -> None:
    paths = defaultdict(list)
    for path, source in sources(*ROOMS):
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                paths[node.name].append(str(path))
    assert {name: found for name, found in paths.items() if len(found) > 1 and name not in SHARED_CLASS_NAMES} == {}


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


def test_float64_is_computed_on_the_cpu() -> None:
    # Apple's GPUs have none. What these files convert is on the CPU.
    known = ("eval/metrics/reconstruction.py", "facegen/optimization/batch_statistics.py")
    found = [
        f"{path}: {line.strip()}"
        for path, source in sources("facegen", "eval")
        if str(path) not in known
        for line in source.splitlines()
        if re.search(r"(?<!\.cpu\(\))\.double\(\)", line)
    ]
    assert found == []
