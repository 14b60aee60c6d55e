"""Compiled networks and traces with DDP, and the GPU benchmark on a CPU."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from launching import RECORD, ROOT, TINY, TRAIN, launch, records, run

FEW_STEPS = 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_two_compiled_processes_train_as_two_others(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["vae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", FEW_STEPS, *TINY]
    options += ["--gradient_accumulation_steps", 2]
    for name in ("eager", "compiled"):
        is_compiled = str(name == "compiled").lower()
        own = ["--run", tmp_path / name, "--performance.compile", is_compiled]
        run(launch(2, RECORD, tmp_path / f"{name}.jsonl", *options, *own))
    for rank in (0, 1):
        eager, compiled = (records(tmp_path / f"{name}.jsonl", rank) for name in ("eager", "compiled"))
        assert len(eager) == len(compiled) == FEW_STEPS
        for one, other in zip(eager, compiled, strict=True):
            assert one["rows"] == other["rows"]
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    both = [records(tmp_path / "compiled.jsonl", rank)[-1]["parameters"] for rank in (0, 1)]
    assert both[0] == both[1]


def test_every_process_leaves_a_trace(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["ae", "--data", tiny_dataset, "--global_batch_size", 32, "--max_steps", 14, *TINY, "--profile"]
    run(launch(2, TRAIN, *options, "--run", tmp_path / "run"))
    traces = sorted(path.name for path in (tmp_path / "run" / "profile").glob("*.gz"))
    assert traces == [f"images_000000000000_rank_{rank}.pt.trace.json.gz" for rank in (0, 1)]
    assert "c10d::allreduce_" in (tmp_path / "run" / "profile" / "images_000000000000_rank_1.txt").read_text()


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_and_names_what_fails(tmp_path: Path) -> None:
    script = ROOT / "tests" / "benchmarks" / "gpu.py"
    groups = ["--only", "[precision,ddp,distance]"]
    run([sys.executable, str(script), "--device", "cpu", "--images", "small", *groups, "--out", str(tmp_path)])
    found = {case["name"]: case for case in json.loads((tmp_path / "gpu.json").read_text())["cases"]}
    assert found["fp16"]["failure"] == "--mixed_precision fp16 does not work on a cpu device; use bf16 or no."
    del found["fp16"]
    assert {"float32", "float32 as TF32", "bf16", "world size 1", "world size 2, compiled"} < set(found)
    assert all(case["images_per_sec"] > 0 and not case["failure"] for case in found.values())
    assert "| precision | fp16 | failed: --mixed_precision fp16" in (tmp_path / "gpu.md").read_text()
