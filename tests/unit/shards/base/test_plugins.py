"""Entry points of installed packages, and what happens where one is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facegen.options import MonitorConfig
from facegen.reporting import trackers
from facegen.reporting.trackers import require_trackers
from shards.base.errors import UserError
from shards.base.plugins import Registry, plugin_names

GROUP = "facegen.trackers"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package with entry points of ``GROUP``."""

    def make(name: str, **points: str) -> None:
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{point} = {value}" for point, value in points.items())
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}\n")
        (tmp_path / f"{name}_module.py").write_text("VALUE = 'a text'\n")
        monkeypatch.syspath_prepend(tmp_path)

    return make


def test_plugins_come_behind_the_projects_own(install: Callable[..., None]) -> None:
    install("toys", b="toys_module:VALUE", a="toys_module:VALUE.upper")
    install("more", c="more_module:VALUE")
    with pytest.warns(UserWarning, match="a of toys is left out: .*upper is not a builtins.str"):
        registry = Registry(GROUP, str, {"own": "mine"})
        assert list(registry) == ["own", "b", "c"]
    assert registry["b"] == "a text" and registry["own"] == "mine" and len(registry) == 3
    assert "a" not in registry
    assert plugin_names(GROUP) == ["a", "b", "c"]


def test_broken_and_doubled_ones_are_left_out_with_a_note(install: Callable[..., None]) -> None:
    install("toys", own="toys_module:VALUE", a="toys_module:MISSING", b="no_such_module:VALUE", c="toys_module:VALUE")
    install("twins", c="twins_module:VALUE")
    with pytest.warns(UserWarning) as notes:
        assert dict(Registry(GROUP, str, {"own": "mine"})) == {"own": "mine", "c": "a text"}
    texts = "\n".join(str(note.message) for note in notes)
    assert "own of toys is left out: there is one of this name already" in texts
    assert "a of toys is left out: it cannot be loaded (AttributeError: " in texts
    assert "b of toys is left out: it cannot be loaded (ModuleNotFoundError: " in texts
    assert texts.count("c of ") == 1


def test_a_projects_own_entry_loads_no_plugin(install: Callable[..., None]) -> None:
    install("toys", a="no_such_module:VALUE")
    assert Registry(GROUP, str, {"own": "mine"})["own"] == "mine"


def test_a_tracker_that_cannot_be_loaded(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"monitor.trackers must be of tensorboard, .*trackio, not 'lines'"):
        MonitorConfig(trackers=["lines"])
    install("toys", lines="no_such_module:VALUE")
    assert MonitorConfig(trackers=["lines"]).trackers == ["lines"]
    monkeypatch.setattr(trackers._KINDS, "_plugins", None)
    with pytest.warns(UserWarning, match="cannot be loaded"), pytest.raises(UserError, match="update or remove it"):
        require_trackers(["lines"])
