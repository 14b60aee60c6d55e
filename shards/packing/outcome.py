"""Puts the results of all shards together: the manifest and the index of the data set."""

from __future__ import annotations

import numpy as np

from shards.base.names import Names
from shards.dataset.manifest import ImageFormat, Manifest, Shard
from shards.dataset.writer import Columns
from shards.packing.plan import PackingPlan
from shards.packing.shard import ShardResult
from shards.packing.skipped import summarize_skipped
from shards.packing.versions import installed_versions
from shards.sources.base import Source


def assemble(source: Source, plan: PackingPlan, results: dict[str, ShardResult]) -> tuple[Manifest, Columns]:
    """Describes a packed data set; writes nothing.

    Args:
        source: What was packed.
        plan: How.
        results: The result of every task of the plan, by name.

    Returns:
        Manifest and index rows, shards and samples in the order of the plan; both without shards if every image was
        skipped.
    """
    done = [(task, results[task.name]) for task in plan.tasks if results[task.name].num_bytes]
    num_faceless = sum(len(results[task.name].faceless) for task in plan.tasks)
    manifest = Manifest(
        name=source.name,
        image=ImageFormat(
            height=plan.preparation.size,
            width=plan.preparation.size,
            channels=plan.preparation.channels,
            extension=plan.encoding.extension,
            codec_options=plan.encoding.codec_options,
        ),
        fields=source.fields,
        shards=tuple(
            Shard(task.name, task.split, len(result.positions), result.num_bytes, result.sha256)
            for task, result in done
        ),
        split=plan.split,
        provenance={
            **plan.spec,
            "skipped": summarize_skipped([results[task.name] for task in plan.tasks]),
            "num_enlarged": sum(result.num_enlarged for _, result in done),
            **({"num_faceless": num_faceless} if plan.alignment else {}),
            "versions": installed_versions(plan.encoding.extension, plan.alignment is not None),
        },
        identity_field=source.identity_field,
    )
    positions = _joined([result.positions for _, result in done], np.int64)
    columns = Columns(
        offset=_joined([result.offsets for _, result in done], np.int64),
        size=_joined([result.sizes for _, result in done], np.int32),
        crc32=_joined([result.crc32 for _, result in done], np.uint32),
        keys=Names(plan.inventory.keys[int(position)] for position in positions),
        labels={name: column[positions] for name, column in plan.inventory.labels.items()},
    )
    return manifest, columns


def _joined(parts: list, dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.array(part, dtype) for part in parts]) if parts else np.empty(0, dtype)
