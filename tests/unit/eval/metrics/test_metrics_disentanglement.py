"""Codes with a known answer: one dim a factor, a rotation of that, and noise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eval import disentanglement as command
from eval.factors.all_scores import SCORES, measure_factors
from eval.factors.dci import completeness, dci, disentanglement
from eval.factors.known import ground_truth, read_factors
from eval.factors.scores import KnownFactors, active_dims, factor_vae_score, mig, mutual_information, sap
from eval.features.row_bank import RowBank
from eval.reports.context import Protocol, ReportContext
from eval.reports.evaluate import measured
from eval.reports.registry import PARTS
from eval.reports.results import Measure
from eval.reports.run_context import RunContext
from eval.reports.statistic import LATENTS, Results
from facegen.training.trainer import Trainer
from shards.base.errors import UserError
from shards.dataset.dataset import Dataset

NUM = 2000
RANDOM = np.random.default_rng(0)
VALUES = np.column_stack([RANDOM.uniform(-1, 1, (NUM, 3)), RANDOM.integers(0, 3, NUM)])
FACTORS = KnownFactors(("a", "b", "c", "kind"), VALUES, np.array([False, False, False, True]))
PERFECT = VALUES[:, [2, 3, 0, 1]] * [1, -2, 5, 0.3] + 1e-3 * RANDOM.normal(size=(NUM, 4))
# Every entry is +-1/2: each dim is an even mix of all factors.
ROTATED = VALUES / VALUES.std(axis=0) @ (np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2)
NOISE = RANDOM.normal(size=(NUM, 5))


def scores(latents: np.ndarray) -> dict[str, float]:
    forest = dci(latents, FACTORS)
    return {
        "mig": float(mig(latents, FACTORS).mean()),
        "sap": float(sap(latents, FACTORS).mean()),
        "factor_vae": factor_vae_score(latents, FACTORS),
        "disentanglement": forest.disentanglement,
        "completeness": forest.completeness,
        "informativeness": forest.informativeness,
    }


def test_one_dim_for_each_factor_is_perfect() -> None:
    found = scores(np.column_stack([PERFECT, NOISE]))  # Uninformative dims do not matter.
    assert min(found.values()) > 0.9, found
    assert max(found.values()) <= 1


def test_an_even_mix_is_not_disentangled_but_informative() -> None:
    found = scores(ROTATED)
    assert found["informativeness"] > 0.85
    for name in ("mig", "sap", "disentanglement", "completeness"):
        assert found[name] < 0.2, found


def test_noise_scores_nothing() -> None:
    found = scores(NOISE)
    assert found.pop("factor_vae") < 0.5  # 1/4 by chance.
    assert max(found.values()) < 0.05, found


def test_two_dims_that_share_a_factor_cost_completeness_and_not_disentanglement() -> None:
    doubled = np.column_stack([VALUES, VALUES]) + 1e-3 * np.random.default_rng(2).normal(size=(NUM, 8))
    forest = dci(doubled, FACTORS)
    assert forest.disentanglement > 0.95
    assert forest.completeness < 0.75
    assert mig(doubled, FACTORS).max() < 0.05


def test_two_factors_in_one_dim_cost_disentanglement_and_not_completeness() -> None:
    importance = np.array([[1.0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert completeness(importance) == pytest.approx(1)
    half = 1 - math.log(2) / math.log(3)
    assert disentanglement(importance) == pytest.approx((2 * half + 1) / 3)


def test_mutual_information_of_known_columns() -> None:
    values = np.repeat(np.arange(20.0), 50)
    factors = KnownFactors(("f", "half"), np.column_stack([values, values < 10]), np.array([False, True]))
    information = mutual_information(np.column_stack([values, -3 * values + 7, values % 2]), factors)
    expected = [[math.log(20), math.log(2)], [math.log(20), math.log(2)], [math.log(2), 0]]
    np.testing.assert_allclose(information, expected, atol=1e-9)
    np.testing.assert_allclose(mig(values[:, None], factors), [1, 1])  # One dim: the second best has 0.


def test_bins_do_not_depend_on_the_scale_of_a_dim() -> None:
    np.testing.assert_allclose(mig(np.exp(3 * PERFECT), FACTORS), mig(PERFECT, FACTORS))


def test_sap_is_the_gap_of_explained_variance() -> None:
    # R^2 of a sum of two independent factors of equal variance is 1/2 for each.
    latents = np.column_stack([VALUES[:, 0], VALUES[:, 0] + VALUES[:, 1]])
    one = KnownFactors(("a",), VALUES[:, :1], np.array([False]))
    assert sap(latents, one)[0] == pytest.approx(0.5, abs=0.03)
    assert sap(PERFECT, FACTORS)[3] == pytest.approx(1, abs=0.01)


def test_inactive_dims_do_not_count() -> None:
    # They follow the factors exactly, scaled to a millionth: invisible through the posterior's noise.
    mu = np.column_stack([PERFECT[:, :2], 1e-6 * VALUES]).astype(np.float32)
    assert active_dims(mu).tolist() == [0, 1]
    found = measure_factors(mu, FACTORS)
    assert found.num_active == 2
    assert found.best["c"].dim == 0 and found.best["kind"].dim == 1
    assert found.best["c"].r2 > 0.99 and found.best["c"].gap > 0.9
    assert found.best["a"].r2 < 0.01


def test_scores_that_cannot_be_computed_say_why() -> None:
    with pytest.raises(UserError, match="at least 500 images, there are 100"):
        measure_factors(PERFECT[:100], FACTORS)
    with pytest.raises(UserError, match="no latent dim is active"):
        measure_factors(1e-3 * PERFECT, FACTORS)


def test_factors_of_rendered_faces(tiny_dataset: Path) -> None:
    dataset = Dataset(tiny_dataset)
    names = ground_truth(dataset)
    assert {"smile", "yaw", "glasses"} <= set(names)
    assert not {"beard", "hair_style", "Smiling", "identity"} & set(names)
    factors = read_factors(dataset, "train", 50, ["smile", "glasses", "Smiling"])
    assert factors.values.shape == (50, 3) and factors.is_class.tolist() == [False, True, True]
    assert np.array_equal(factors.values[:, 0], dataset.labels("smile", "train")[:50].astype(np.float64))
    assert read_factors(dataset, "train", 50, ["smile", "smile"]).names == ("smile",)
    with pytest.raises(UserError, match="none of the factors smile varies"):
        read_factors(dataset, "train", 1, ["smile"])
    with pytest.raises(UserError, match="no label 'smlie'"):
        read_factors(dataset, "train", 50, ["smlie"])


def test_the_report_has_the_scores_or_says_why_not(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset(tiny_dataset)
    num = dataset.num_samples("train")
    smile = dataset.labels("smile", "train")[:, None]
    bank = RowBank(num)
    bank.update(np.arange(num), smile)
    report = ReportContext(Protocol(dataset, "train", num, num, 64, 0), torch.device("cpu"))

    def measures(*can: str) -> Mapping[str, Measure]:
        model: Any = SimpleNamespace(family="vae", can=frozenset(can))
        result: Any = None
        return measured(PARTS["disentanglement"], RunContext(report, "run", model, result, Results({LATENTS: bank})))

    assert "at least 500" in measures("encode")["mig"].reason
    assert "vae does not encode" in measures("decode")["sap"].reason
    monkeypatch.setattr("eval.factors.all_scores.MIN_IMAGES", 20)
    found = measures("encode")
    assert tuple(found) == tuple(SCORES)
    assert all(measure.value is not None and f"{num} images" in measure.note for measure in found.values())
    monkeypatch.delitem(dataset.manifest.fields, "yaw")
    assert "rendered faces" in measures("encode")["mig"].reason


def test_the_command_writes_what_it_prints(
    tiny_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config()
    Trainer(config).fit()
    monkeypatch.setattr("eval.factors.all_scores.MIN_IMAGES", 20)
    monkeypatch.setattr("eval.factors.scores.ACTIVE_VARIANCE", 0.0)  # Four steps do not train anything.
    arguments = [config.run, "--data", config.data, "--split", "train", "--factors", "[smile,yaw]"]
    monkeypatch.setattr("sys.argv", ["x", *arguments, "--out", str(tmp_path / "numbers.json")])
    command.main()
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "numbers.json").read_text())[config.run]
    assert set(SCORES) <= written.keys()
    assert set(written["best"]) == {"smile", "yaw"}
    assert f"{written['mig']:.3f}" in printed and "2 factors" in printed
