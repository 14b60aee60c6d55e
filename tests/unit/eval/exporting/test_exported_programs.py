"""Exported programs: every family's agree with the model, for any number of faces, and hold nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.export import main
from eval.exporting import written_files
from eval.exporting.programs import Program, largest_difference, programs_of
from eval.exporting.written_files import ONNX, TORCH_EXPORT, ExportFormat, write_checked
from facegen.families import FAMILIES
from facegen.model import Model, load
from shards.base.errors import UserError
from tiny_runs import untrained_run

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")

OF = {"encode": "encoder", "decode": "decoder"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_exported_to_onnx(family: str, tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, family)
    main([str(run), "--out", str(tmp_path / "out")])
    model = load(run)
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    programs = {OF[ability] for ability in OF if ability in model.can}
    programs |= {"flow_step"} if model.network.num_flow_steps else set()
    assert set(described["programs"]) == programs != set()
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {f"{name}.onnx" for name in programs} | {"export.json"}
    for program in described["programs"].values():
        assert 0 <= program["largest_difference"] < 1e-5


@pytest.mark.parametrize("family", ["vae_gan", "cvae", "flow"])
def test_torch_export_agrees_with_the_model(
    family: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, family)
    main([str(run), "--out", str(tmp_path / "out"), "--format", "torch_export"])
    assert "decoder.pt2: differs from the model by at most " in capsys.readouterr().out
    decoder = torch.export.load(tmp_path / "out" / "decoder.pt2")
    assert not [name for name in decoder.state_dict if "discriminator" in name or ".encoder." in name]
    program = next(program for program in programs_of(load(run)) if program.name == "decoder")
    for num in (1, 5):
        inputs = tuple(value[:num] for value in program.examples)
        torch.testing.assert_close(decoder.module()(*inputs)[0], program.run(*inputs)[0], rtol=0, atol=1e-6)


def test_images_go_through_onnx_as_through_the_model(tiny_dataset: Path, tmp_path: Path) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "cvae")
    main([str(run), "--out", str(tmp_path / "out")])
    model = load(run)
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    labels = {"smile": [-0.5, 0.25, float("nan")]}
    encoder = onnxruntime.InferenceSession(tmp_path / "out" / "encoder.onnx")
    decoder = onnxruntime.InferenceSession(tmp_path / "out" / "decoder.onnx")
    degrees = np.array(labels["smile"], np.float32)
    mu, _ = encoder.run(None, {"images": images.numpy(), "degrees": degrees})
    decoded = decoder.run(["images"], {"latents": mu, "degrees": degrees})[0]
    np.testing.assert_allclose(decoded, model.reconstruct(images, labels).numpy(), rtol=0, atol=1e-5)


def test_steps_of_the_flow_lead_to_what_the_model_decodes(tiny_dataset: Path, tmp_path: Path) -> None:
    """The loop of docs/export.md."""
    run = untrained_run(tmp_path / "run", tiny_dataset, "flow", num_steps=5)
    main([str(run), "--out", str(tmp_path / "out")])
    model = load(run)
    num_steps = json.loads((tmp_path / "out" / "export.json").read_text())["num_flow_steps"]
    step = onnxruntime.InferenceSession(tmp_path / "out" / "flow_step.onnx")
    decoder = onnxruntime.InferenceSession(tmp_path / "out" / "decoder.onnx")
    degrees = np.array([0.5, -1], np.float32)
    noise = np.random.default_rng(0).standard_normal((2, model.latent_size or 0), np.float32)
    points = latents = noise
    times = np.repeat(np.linspace(0, 1, num_steps + 1, dtype=np.float32)[:, None], 2, axis=1)
    for before, after in zip(times[:-1], times[1:], strict=True):
        inputs = {"points": points, "times": before, "next_times": after, "degrees": degrees}
        points, latents = step.run(None, inputs)
    images = decoder.run(None, {"latents": latents})[0]
    wanted = model.decode(torch.from_numpy(noise), {"smile": torch.from_numpy(degrees)})
    assert num_steps == 5
    np.testing.assert_allclose(images, wanted.numpy(), rtol=0, atol=1e-5)


@pytest.fixture
def decoder(tiny_dataset: Path, tmp_path: Path) -> Program:
    return programs_of(load(untrained_run(tmp_path / "run", tiny_dataset, "vae")))[1]


def test_a_difference_is_found(decoder: Program) -> None:
    wanted = [value.numpy() for value in decoder.run(*decoder.examples)]

    def shifted(inputs: object, by: float = 0.003) -> list[np.ndarray]:
        return [value[: len(inputs[0])] + np.float32(by) for value in wanted]  # type: ignore[index]

    assert largest_difference(decoder, shifted) == pytest.approx(0.003, rel=1e-3)
    assert np.isnan(largest_difference(decoder, lambda inputs: shifted(inputs, np.nan)))


@pytest.mark.parametrize("form", [ONNX, TORCH_EXPORT], ids=["onnx", "torch_export"])
def test_a_wrong_file_is_refused(form: ExportFormat, decoder: Program, tmp_path: Path) -> None:
    def read(path: Path) -> written_files.Run:
        run = form.read(path)
        return lambda inputs: [1.01 * value for value in run(inputs)]

    with pytest.raises(UserError, match="the exported decoder differs from the model by .*, and at most 1e-04"):
        write_checked(decoder, tmp_path / "decoder", form._replace(read=read))


def test_nothing_is_left_of_a_wrong_export(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained_run(tmp_path / "run", tiny_dataset, "vae")
    monkeypatch.setattr("eval.exporting.written_files.TOLERANCE", -1.0)
    with pytest.raises(SystemExit) as ended:
        from shards.command_line import cli

        cli.run(lambda: main([str(run), "--out", str(tmp_path / "out"), "--format", "torch_export"]))
    assert ended.value.code == 2 and list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--num_axes", "3"], "num_axes has no effect with --format onnx; leave it out, or change that."),
        (["--format", "html", "--num_axes", "0"], "num_axes must be at least 1, not 0."),
    ],
)
def test_impossible_options_are_one_sentence(
    options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runs/vae", "--out", str(tmp_path), *options])
    assert ended.value.code == 2 and sentence in capsys.readouterr().err


def test_without_the_extra_one_sentence_names_it(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(
        UserError, match=r"needs onnx, onnxscript and onnxruntime; install: pip install 'facegen\[export\]'"
    ):
        main(["runs/vae", "--out", str(tmp_path)])


def test_the_step_of_a_flow_is_that_of_its_solver(tiny_dataset: Path, tmp_path: Path) -> None:
    model: Model = load(untrained_run(tmp_path / "run", tiny_dataset, "flow", num_steps=3, guidance=2.0))
    flow, labels = model.network, {"smile": torch.tensor([0.5, -0.5])}
    noise = torch.randn(2, model.latent_size or 0)
    points = latents = noise
    with torch.inference_mode():
        for number in range(3):
            times = torch.full((2,), number / 3), torch.full((2,), (number + 1) / 3)
            points, latents = flow.flow_step(points, *times, labels)
        torch.testing.assert_close(flow.codec.decode(latents, {}), flow.decode(noise, labels), rtol=0, atol=1e-6)
