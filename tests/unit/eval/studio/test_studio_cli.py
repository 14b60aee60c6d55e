"""The studio's command line, its background work, and what it shows of a training."""

from __future__ import annotations

import builtins
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.latent.editing.background import Later, NotYet
from eval.studio.__main__ import ask_password, main, read_report
from eval.studio.running import Training
from eval.studio.studio import Studio
from shards.base.errors import UserError
from shards.serving.server import listen, require_web_packages
from studio_runs import client_of, png
from tiny_runs import untrained_run


def sentence_of(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "--port", "70000"], "port must be between 0 and 65535"),
        (["run", "--tensorboard", "javascript:alert(1)"], "must begin with http"),
        (["run", "--prot", "1"], "'port'"),
        (["--port", "1"], "runs"),
    ],
)
def test_mistakes_are_one_sentence(args, words, capsys):
    assert words in sentence_of(args, capsys)


def test_missing_files_and_passwords_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("FACEGEN_STUDIO_PASSWORD", raising=False)
    with pytest.raises(UserError, match="nowhere does not exist"):
        main([str(tmp_path / "nowhere"), "--port", "0"])
    with pytest.raises(UserError, match="not a readable file of attribute vectors"):
        main([str(tmp_path), "--port", "0", "--attributes", str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="--share needs a password"):
        main([str(tmp_path), "--share"])
    with pytest.raises(UserError, match="make one with: python -m eval.report"):
        read_report(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="give another --port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_a_short_password_is_refused(monkeypatch):
    monkeypatch.setenv("FACEGEN_STUDIO_PASSWORD", "1234567")
    with pytest.raises(UserError, match="at least 8"):
        ask_password()
    monkeypatch.setenv("FACEGEN_STUDIO_PASSWORD", "12345678")
    assert ask_password() == "12345678"


def test_a_missing_server_package_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def missing(name: str, *args: Any, **options: Any) -> Any:
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'facegen\[studio\]'"):
        require_web_packages("the studio")


def test_background_work_is_done_once_and_its_problem_is_kept():
    calls = []

    def work() -> int:
        calls.append(1)
        return 7

    later = Later("numbers are being added", work)
    assert later.wait() == 7 and later.get() == 7 and later.wait() == 7
    assert len(calls) == 1

    def refuse() -> int:
        raise UserError("there are no numbers.")

    with pytest.raises(UserError, match="there are no numbers"):
        Later("numbers are being added", refuse).wait()


def test_failed_background_work_is_a_sentence_and_a_traceback_in_the_terminal(capsys):
    with pytest.raises(UserError, match="numbers are being added failed; the studio's terminal says why"):
        Later("numbers are being added", lambda: 1 // 0).wait()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_unfinished_result_names_the_work():
    import threading

    go = threading.Event()
    later = Later("numbers are being added", go.wait)
    with pytest.raises(NotYet, match="numbers are being added, which happens once"):
        later.get()
    go.set()
    later.wait()


def a_training(run: Path, points: list[dict[str, Any]]) -> Path:
    (run / "pictures").mkdir(parents=True)
    (run / "config.yaml").write_text("max_images: 5000\nmax_epochs: null\n")
    (run / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    return run


def test_a_run_in_progress_is_read_again_each_time(tmp_path):
    points = [
        {"images_seen": 100, "train/mse": 0.5, "train/kl_per_dim": [1.0]},
        {"images_seen": 200, "train/mse": 0.25},
    ]
    run = a_training(tmp_path / "run", points)
    training = Training("run", run)
    progress = training.progress()
    assert (progress.images_seen, progress.goal, progress.latest) == (200, "5,000 images", {"train/mse": 0.25})
    assert list(progress.curves) == ["mse"] and training.curve("mse").startswith("<svg")
    assert progress.pictures == {"reconstructions": [], "samples": []}
    (run / "pictures" / "samples_images_000000000200.png").write_bytes(png())
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"images_seen": 300, "train/mse": None}) + '\n{"images_se')
    progress = training.progress()
    assert (progress.images_seen, progress.latest) == (300, {"train/mse": 0.25})
    assert progress.pictures["samples"] == [200] and training.picture("samples", 200) == png()
    with pytest.raises(UserError, match="drew no samples after 201 images"):
        training.picture("samples", 201)
    with pytest.raises(UserError, match="no curve of this name"):
        training.curve("../config")


def test_a_run_without_a_snapshot_shows_its_training(tmp_path):
    run = a_training(tmp_path / "run", [{"images_seen": 50, "train/mse": 0.9}, {"images_seen": 100, "train/mse": 0.5}])
    studio = Studio([str(run)])
    assert not studio.runs and list(studio.trainings) == ["run"]
    assert "has no complete snapshot" in studio.notes[0]
    with client_of(studio) as client:
        assert client.get("/api/trainings/run").json()["images_seen"] == 100
        curve = client.get("/api/trainings/run/curves/mse")
        assert curve.headers["content-type"] == "image/svg+xml"
        assert curve.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_runs_of_one_name_are_numbered(tmp_path, tiny_dataset):
    runs = [untrained_run(tmp_path / folder / "run", tiny_dataset) for folder in ("a", "b")]
    for run in runs:
        (run / "config.yaml").write_text("max_images: 1\n")
    studio = Studio([str(run) for run in [*runs, runs[0]]])
    assert list(studio.runs) == ["run (1)", "run (2)", "run (3)"]
    assert [training.run for training in studio.trainings.values()] == runs
    assert list(studio.trainings) == ["run", "run (2)"]


def test_the_report_and_tensorboard_are_linked(tmp_path, tiny_dataset):
    (tmp_path / "report.html").write_text("<!doctype html><p>a report")
    report = read_report(tmp_path)
    studio = Studio([str(untrained_run(tmp_path / "run", tiny_dataset))])
    with client_of(studio, report=report, links={"TensorBoard": "http://localhost:6006"}) as client:
        links = client.get("/api/studio").json()["links"]
        assert links == {"TensorBoard": "http://localhost:6006", "Report": "/report"}
        shown = client.get("/report")
        assert shown.text == "<!doctype html><p>a report"
        assert "script" not in shown.headers["content-security-policy"]


def test_the_documentation_names_every_address(tmp_path, tiny_dataset):
    studio = Studio([str(untrained_run(tmp_path / "run", tiny_dataset))])
    with client_of(studio) as client:
        described = client.get("/api/openapi.json").json()
        page = client.get("/api/docs").text
    assert len(described["paths"]) > 15
    for path, methods in described["paths"].items():
        assert path in page
        assert all(operation["description"] for operation in methods.values()), path


def test_pictures_are_as_large_as_the_runs(tmp_path, tiny_dataset):
    studio = Studio([str(untrained_run(tmp_path / "run", tiny_dataset))])
    with client_of(studio) as client:
        content = client.post("/api/runs/run/picture", json={"face": {"kind": "sample", "seed": 0}}).content
    (tmp_path / "face.png").write_bytes(content)
    assert np.asarray(Image.open(tmp_path / "face.png")).shape == (16, 16, 3)
