"""Which runs lose to a baseline."""

from __future__ import annotations

from eval.reports.comparisons.beaten import beaten
from eval.reports.registry import metrics
from eval.reports.results import Measure, Report, RunResult

MSE, FD, FACE = "mse", "frechet_efflite0_samples", "frechet_face_samples"


def column(name: str, mse: float | None, fd: float | None, face: float | None) -> RunResult:
    values = {MSE: mse, FD: fd, FACE: face}
    measures = {metric.key: Measure(values.get(metric.key)) for metric in metrics()}
    return RunResult(name, name, "vae", "EMA", 1, 1, "", "", measures)


def sentences(run: RunResult, *baselines: RunResult) -> list[str]:
    report = Report("title", "now", {}, metrics(), [run])
    report.baselines = list(baselines)
    return beaten(report, {"vae": 64, "eigenfaces 64": 64, "eigenfaces 256": 256})


def test_one_sentence_for_all_numbers_of_the_samples() -> None:
    few, many = column("eigenfaces 64", 0.02, 70, 0.1), column("eigenfaces 256", 0.01, 50, 0.2)
    assert sentences(column("vae", 0.015, 80, 0.3), few, many) == [
        "vae: the samples of eigenfaces 256 are better (FD-EffLite0 80.00 against 50.00), "
        "and those of eigenfaces 64 (FD-Face 0.3000 against 0.1000)"
    ]


def test_reconstructions_are_compared_at_as_many_latents() -> None:
    few, many = column("eigenfaces 64", 0.02, None, None), column("eigenfaces 256", 0.01, None, None)
    assert sentences(column("vae", 0.015, None, None), few, many) == []
    (sentence,) = sentences(column("vae", 0.03, None, None), few, many)
    assert sentence == "vae: the reconstructions of eigenfaces 64 are better (MSE on [-1, 1] 0.03000 against 0.02000)"


def test_real_faces_are_not_a_rival() -> None:
    assert sentences(column("vae", None, 80, 0.3), column("real", None, 5, 0.01)) == []
