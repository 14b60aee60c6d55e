"""Real faces: a short training of the CVAE on CelebA, judged by an independent smile classifier."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from eval.controls.judge import judge_samples, load_judge
from eval.controls.response import telling
from facegen.config import parse_args
from facegen.model import load
from facegen.training.trainer import Trainer
from shards.pack import main as pack

SHARED = Path(__file__).parents[3] / "shared"
NUM_IMAGES = 20_000


@pytest.mark.slow
@pytest.mark.skipif(
    not (SHARED / "data" / "celeba10k.tar").is_file() or not (SHARED / "judge").is_dir(),
    reason="needs CelebA's images and the smile judge in ../shared",
)
def test_smiles_of_both_signs_are_distinguished(tmp_path: Path) -> None:
    with tarfile.open(SHARED / "data" / "celeba10k.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    pack(["celeba", str(tmp_path / "celeba"), str(tmp_path / "data"), "--size", "64"])
    options = ["--data", str(tmp_path / "data"), "--run", str(tmp_path / "run"), "--max_images", str(NUM_IMAGES)]
    Trainer(parse_args(["cvae", "--config", "cvae_celeba", *options])).fit()
    judge = load_judge(SHARED / "judge" / "smile_judge.pt", torch.device("cpu"))
    low, high = judge_samples(load(tmp_path / "run"), judge, (-0.7, 0.7), num=256, seed=0)
    result = telling(low, high, threshold=0.5)
    assert result.paired >= 0.85
    assert result.accuracy >= 0.85
