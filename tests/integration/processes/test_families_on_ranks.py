"""Every family trains the same on two and four ranks as on one, and its held-out metrics are those of its snapshot.

The reference is one process with as many accumulation steps: its micro-batches are exactly the shares of the ranks, so
batch norm sees the same images and everything agrees up to the rounding of sums.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from facegen.families import FAMILIES
from facegen.model import load
from facegen.pixels import to_float
from facegen.runs.checkpoint import newest_complete
from launching import json_lines, launch, run
from record_families import CASES, NUM_STEPS
from shards.dataset.dataset import Dataset
from shards.loading.loader import evaluation_batches

SCRIPT = Path(__file__).with_name("record_families.py")
RECONSTRUCTING = [
    name for name, case in CASES.items() if {"encode", "decode"} <= FAMILIES[case.family].family_class.can
]


@pytest.fixture(scope="module", params=[2, 4])
def world_size(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def records(world_size: int, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The records of ``record_families.py``, in ``one`` and ``ranks``."""
    root = tmp_path_factory.mktemp("ranks")
    for name, num_processes, accumulation in (("one", 1, world_size), ("ranks", world_size, 1)):
        (root / name).mkdir()
        run(launch(num_processes, SCRIPT, root / name, tiny_dataset, str(accumulation)))
    return root


@pytest.mark.parametrize("case", CASES)
def test_ranks_train_as_one_process(case: str, world_size: int, records: Path) -> None:
    one = json_lines(records / "one" / f"{case}.0.jsonl")
    ranks = [json_lines(records / "ranks" / f"{case}.{rank}.jsonl") for rank in range(world_size)]
    assert {len(lines) for lines in (one, *ranks)} == {4}
    for alone, *shares in zip(one, *ranks, strict=True):
        assert [row for share in shares for row in share["rows"]] == alone["rows"]
        assert len({share["parameters"] for share in shares}) == 1
        for name, value in alone["losses"].items():
            together = statistics.fmean(share["losses"][name] for share in shares)
            assert together == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert one[0]["parameters"] != one[-1]["parameters"]


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.ema_half_life_images])
def test_batch_norm_averages_reach_the_moving_average(case: str, records: Path) -> None:
    checkpoint = newest_complete(records / "ranks" / case / "checkpoints")
    assert checkpoint is not None
    saved = {name: load_file(checkpoint / f"{name}.safetensors") for name in ("ema", "weights")}
    counters = [name for name in saved["ema"] if name.endswith("num_batches_tracked")]
    assert counters and {saved["ema"][name].item() for name in counters} == {NUM_STEPS}
    for name in counters:
        averages = [saved[kind][name.replace("num_batches_tracked", "running_var")] for kind in ("ema", "weights")]
        assert not torch.equal(*averages) and not any((average == 1).all() for average in averages)


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.ema_half_life_images])
def test_batch_norm_of_the_moving_average_is_that_of_one_process(case: str, records: Path) -> None:
    one, ranks = (newest_complete(records / place / case / "checkpoints") for place in ("one", "ranks"))
    assert one and ranks
    expected, found = (load_file(checkpoint / "ema.safetensors") for checkpoint in (one, ranks))
    for name in (name for name in expected if name.endswith("running_var")):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-4)
        # The bias before a norm has no gradient, so Adam follows the rounding of sums; it moves the mean only.
        norm = name.removesuffix(".running_var")
        stages, position = norm.rsplit(".", 1)
        bias = f"{stages}.{int(position) - 1}.bias"
        means = [saved[f"{norm}.running_mean"] - saved[bias] for saved in (found, expected)]
        torch.testing.assert_close(*means, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", RECONSTRUCTING)
def test_held_out_metrics_do_not_depend_on_the_rank_that_holds_an_image(
    case: str, records: Path, tiny_dataset: Path
) -> None:
    # The snapshot holds the main process's averages of batch norm; other ranks' own would give another error.
    (logged,) = [
        line["val/mse"] for line in json_lines(records / "ranks" / case / "metrics.jsonl") if "val/mse" in line
    ]
    model, dataset = load(records / "ranks" / case), Dataset(tiny_dataset)
    (batch,) = evaluation_batches(dataset, "val", dataset.num_samples("val"))
    images = to_float(batch.images)
    squared = (model.reconstruct(images, batch.labels) - images).square()
    assert logged == pytest.approx(torch.mean(squared).item(), rel=1e-5)
