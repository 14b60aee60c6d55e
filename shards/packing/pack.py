"""Packing as a function: from a source to a complete data set, resumed where an earlier packing stopped."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from shards.base.errors import UserError
from shards.base.files import check_writable, writing_to
from shards.base.progress import ProgressLine
from shards.command_line.keywords import build, option_names, unknown_option
from shards.dataset.addresses import as_address
from shards.dataset.dataset import Dataset
from shards.dataset.stores import Store, open_store
from shards.dataset.writer import dataset_files
from shards.execution.dispatch import choose_executor, run_tasks
from shards.execution.executor import Executor
from shards.images.detector import require_detector
from shards.images.reading import Preparation, parse_crop
from shards.packing.options import PackOptions
from shards.packing.outcome import assemble
from shards.packing.plan import Encoding, PackingPlan, Splitting, make_plan
from shards.packing.shard import ShardJob, ShardResult, listed
from shards.packing.skipped import check_skipped, print_skipped, save_faceless_sheet
from shards.packing.splits import Fractions
from shards.packing.versions import check_versions, installed_versions
from shards.packing.workspace import ShardWork, Workspace, existing_dataset
from shards.sources import find_source
from shards.sources.base import Source


def pack(source: str | Source, *paths: str | Path, **options: Any) -> Dataset:
    """Packs images into a data set, as ``python -m shards.pack`` does; resumes a packing that was interrupted.

    Examples:
        >>> shards.pack("folder", "faces/", "data/", size=64, subfolders="identity")
        >>> shards.pack("synthetic", "data/", num=1000, codec="png")
        >>> shards.pack(my_source, "data/", split_by="sample")

    In a script, call it below ``if __name__ == "__main__":``, because worker processes import the script; or pass
    ``workers=1``.

    Args:
        source: Name of a source (``shards.sources.SOURCES`` lists them), or an object with the interface
            ``shards.sources.base.Source``.
        *paths: Input and output; the output alone for a source without input, such as ``synthetic`` or an object.
        **options: Fields of ``shards.packing.options.PackOptions`` and, for a named source, of its config class:
            ``python -m shards.pack SOURCE --help`` explains each.

    Returns:
        The complete data set; the existing one if the same call already made it.

    Raises:
        UserError: An unknown source or option, a value out of range, bad input, an output folder that holds something
            else, or too many bad images.
    """
    entry = find_source(source) if isinstance(source, str) else None
    name = source if isinstance(source, str) else source.name
    positional = ("input", "output") if entry and entry.takes_input else ("output",)
    values = dict(options) | dict(zip(positional, paths, strict=False))
    missing = [path for path in positional if path not in values]
    if missing or len(paths) > len(positional) or len(values) < len(options) + len(paths):
        raise UserError(f"source '{name}' takes {' and '.join(positional)}, each once; {len(paths)} paths were given.")
    of_packing = option_names(PackOptions)
    of_source = option_names(entry.config_class) if entry else ()
    for option in values:
        if option not in (*of_packing, *of_source):
            raise unknown_option(option, (*of_packing, *of_source))
    try:
        pack_options = build(PackOptions, {key: value for key, value in values.items() if key in of_packing})
        if entry:
            config = build(entry.config_class, {key: value for key, value in values.items() if key in of_source})
            _check_apart(getattr(config, "input", None), pack_options.output)
            source = entry.open(config, pack_options.size)
    except ValueError as error:
        raise UserError(str(error)) from None
    assert not isinstance(source, str)
    return pack_source(source, pack_options)


def pack_source(source: Source, options: PackOptions, executor: Executor | None = None) -> Dataset:
    """Packs an opened source; ``pack`` with typed options.

    Args:
        source: What to pack.
        options: How.
        executor: Where shards are written; None takes what ``options.workers`` and ``options.address`` say.

    Returns:
        The complete data set; the existing one if the same options already made it.

    Raises:
        UserError: Bad input, an output folder that holds something else, or too many bad images.
    """
    store = open_store(options.output)
    if options.alignment is not None:
        require_detector()
    if options.faceless_sheet is not None:
        check_writable(options.faceless_sheet, "give another file name")
    plan = make_plan(
        source,
        Preparation(options.size, options.channels, parse_crop(options.crop, source.crop), options.resize_filter),
        Encoding(options.codec, options.codec_options),
        Splitting(options.split_by, Fractions(options.val_fraction, options.test_fraction), options.seed),
        options.samples_per_shard,
        options.alignment,
    )
    for note in plan.notes:
        print(note)
    existing = existing_dataset(store, plan.spec)
    if existing:
        print(f"{store} is already packed; nothing to do.")
        return existing
    with Workspace(store) as workspace:
        workspace.begin(plan.spec)
        results = _write_missing(source, plan, workspace, options, executor)
        _finish(source, plan, results, options, store)
        workspace.clear()
    return Dataset(str(store))


def _write_missing(
    source: Source, plan: PackingPlan, workspace: Workspace, options: PackOptions, executor: Executor | None
) -> dict[str, ShardResult]:
    """Writes the shards that are missing.

    Returns:
        The results of all shards by name.

    Raises:
        UserError: More bad images than allowed, or shards of different package versions.
    """
    results = workspace.finished(plan.tasks)
    versions = installed_versions(plan.encoding.extension, plan.alignment is not None)
    for result in results.values():
        check_versions(result.name, result.versions, versions)
    missing = [task for task in plan.tasks if task.name not in results]
    num_finished = sum(len(task.positions) for task in plan.tasks if task.name in results)
    if results:
        print(f"Resuming: {len(results)} of {len(plan.tasks)} shards are finished.")
    work = ShardWork(ShardJob(source, plan.preparation, plan.encoding, plan.alignment), workspace.store)
    executor = executor or choose_executor(options.workers, len(missing), options.address)
    start = time.monotonic()
    with ProgressLine("packing", len(source), initial=num_finished) as progress:
        check_skipped(results, len(source), options.max_skipped_fraction)
        # Closed as soon as too many are bad: the workers stop before the error is printed.
        tasks = listed(source, missing)
        with closing(run_tasks(executor, work, tasks, progress.update, workspace.store)) as new_results:
            for result in new_results:
                check_versions(result.name, result.versions, versions)
                results[result.name] = result.compact()
                check_skipped(results, len(source), options.max_skipped_fraction)
    if missing:
        num_new, seconds = len(source) - num_finished, time.monotonic() - start
        print(f"{num_new} images in {seconds:.1f} s ({num_new / seconds:.0f} images/s, {executor}).")
    return results


def _finish(
    source: Source, plan: PackingPlan, results: dict[str, ShardResult], options: PackOptions, store: Store
) -> None:
    """Writes index, manifest and, if asked for, the sheet of images without a face; prints what was skipped.

    Raises:
        UserError: No image could be packed.
    """
    manifest, columns = assemble(source, plan, results)
    print_skipped(manifest.provenance["skipped"])
    if not manifest.shards:
        raise UserError("no image could be packed; see the reasons above.")
    num_enlarged = manifest.provenance["num_enlarged"]
    if num_enlarged:
        print(f"{num_enlarged} images were smaller than {options.size} pixels after the crop and were enlarged.")
    faceless = sorted(position for result in results.values() for position in result.faceless)
    if plan.alignment is not None:
        print(f"No upright face was found in {len(faceless)} of {len(source)} images.")
    with writing_to(f"to {store}", "fix this, then rerun the command"):
        for name, content in dataset_files(manifest, columns):
            store.write(name, content)
    if options.faceless_sheet is not None:
        pictures = ((source[position].key, source.load(source[position])) for position in faceless)
        save_faceless_sheet(options.faceless_sheet, pictures, len(faceless), len(source))


def _check_apart(source: Path | str | None, output: Path) -> None:
    """Refuses an output inside the input.

    Raises:
        UserError: It is.
    """
    if source is None or not Path(source).exists() or as_address(output):
        return
    if output.resolve().is_relative_to(Path(source).resolve()):
        raise UserError(f"the output {output} lies inside the input {source}; give a folder outside it.")
