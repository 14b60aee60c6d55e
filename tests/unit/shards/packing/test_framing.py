"""Framings of packed data sets: which are the same, and which template frames photos alike."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from pathlib import Path
from typing import get_args

import pytest

from field_trees import TREES
from shards.base.records import as_record
from shards.dataset.dataset import Dataset
from shards.images.alignment import Alignment, TemplateName
from shards.index import index
from shards.packing.framing import Framing
from shards.packing.pack import pack
from shards.sources.celeba import FACE_BOX
from shards.sources.lfw import LFWCROP_BOX

LFW, CELEBA = Framing("lfw", LFWCROP_BOX), Framing("celeba", FACE_BOX)
CELEBA_AS_LFW = Framing("celeba", (0.266, 0.418, 0.738, 0.804))
"""As docs/latent_tools.md packs it."""


def aligned(template: TemplateName, margin: float = 0.0, source: str = "folder") -> Framing:
    return Framing(source, "center", Alignment(template, margin))


def test_data_sets_as_they_are_packed_by_default_have_a_template() -> None:
    assert LFW.alignment == CELEBA_AS_LFW.alignment == Alignment("lfw", face="largest")
    assert CELEBA.alignment == Alignment("celeba", face="largest")
    assert aligned("facenet", 0.1375).alignment == Alignment("facenet", 0.1375, "largest")
    for without in (Framing("lfw", "center"), Framing("celeba", "center"), Framing("utkface", "center")):
        assert without.alignment is None
    assert Framing("lfw", (0, 0, 300, 300)).alignment is None  # Images of another size.


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (LFW, LFW, False),
        (LFW, CELEBA, True),
        (LFW, CELEBA_AS_LFW, False),
        (CELEBA, CELEBA_AS_LFW, True),
        (LFW, Framing("lfw", "center"), True),
        (LFW, aligned("lfw"), False),
        (LFW, aligned("celeba"), True),
        (aligned("facenet"), aligned("facenet", 0.1375), True),
        (aligned("ffhq"), aligned("ffhq"), False),
        (aligned("ffhq"), LFW, True),
        (CELEBA, Framing("utkface", "center"), True),
        (Framing("fei", "center"), Framing("utkface", "center"), True),
        # Photos of one's own may have any framing.
        (LFW, Framing("folder", "center"), False),
        (LFW, Framing("a source of one's own", "center"), False),
    ],
)
def test_which_framings_differ(one: Framing, other: Framing, differs: bool) -> None:
    assert one.differs_from(other) == other.differs_from(one) == differs


def test_no_two_templates_are_the_same_framing() -> None:
    for one, other in combinations(get_args(TemplateName), 2):
        assert aligned(one, source="lfw").differs_from(aligned(other, source="celeba"))
        raw = {"lfw": LFW, "celeba": CELEBA}.get(one)
        assert raw is None or raw.differs_from(aligned(other))


def test_packing_records_the_framing(tmp_path: Path) -> None:
    TREES["lfw"](tmp_path / "lfw")
    options = {"size": 16, "workers": 1, "val_fraction": 0, "test_fraction": 0, "max_skipped_fraction": 0.9}
    packed = pack("lfw", tmp_path / "lfw", tmp_path / "out", **options)
    assert Framing.of(packed.manifest) == LFW
    cut = pack("lfw", tmp_path / "lfw", tmp_path / "cut", crop="0.1,0.1,0.9,0.9", **options)
    assert Framing.of(cut.manifest) == Framing("lfw", (0.1, 0.1, 0.9, 0.9))
    (tmp_path / "out" / "dataset.json").unlink()
    assert Framing.of(index(tmp_path / "out").manifest) is None


def test_a_provenance_of_any_form_has_no_framing(tiny_dataset: Path) -> None:
    manifest = Dataset(tiny_dataset).manifest
    assert Framing.of(manifest) == Framing("synthetic", "center")
    for options in (
        {},
        {"crop": 3},
        {"crop": "left"},
        {"crop": "center", "align": {"template": "x"}},
        {"crop": [1, 2]},
    ):
        assert Framing.of(dataclasses.replace(manifest, provenance={"source": "lfw", "options": options})) is None


def test_a_framing_survives_json() -> None:
    for framing in (LFW, aligned("ffhq", 0.2)):
        assert as_record(json.loads(json.dumps(dataclasses.asdict(framing))), Framing, "", "") == framing
