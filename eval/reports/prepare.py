"""What all runs of a report share, done once before the first of them: feature spaces, features, preparations."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

from accelerate import Accelerator
from accelerate.utils import gather_object

from eval.features.optional_spaces import OPTIONAL_SPACES
from eval.features.reference import reference_features, splits_features
from eval.features.space_names import NOT_CHOSEN, Space, frechet_name
from eval.features.spaces import FeatureSpace, load_efflite0
from eval.reports.context import Protocol, ReportContext
from eval.reports.part import NUM_QUERIES, Amount, Features, Part
from eval.reports.registry import PARTS
from eval.reports.stages import Stages
from facegen.processes.consensus import all_do, check_same, here, main_does
from shards.packing.framing import Framing


@dataclass(frozen=True)
class Evaluation:
    """What the evaluations of all runs share."""

    report: ReportContext
    chosen: frozenset[str]
    """Names of the parts to do."""
    accelerator: Accelerator
    stages: Stages

    @property
    def parts(self) -> list[Part]:
        """The parts to do, in order."""
        return [part for part in PARTS.values() if part.name in self.chosen]


def features_of(parts: Iterable[Part]) -> Features | None:
    """The features that some parts look at; None where none of them looks at any."""
    needs = [part.features for part in parts if part.features is not None]
    joined = Features()
    for need in needs:
        joined |= need
    return joined if needs else None


def prepare(
    protocol: Protocol,
    chosen: frozenset[str],
    spaces: Collection[Space],
    fid_weights: str,
    accelerator: Accelerator,
    stages: Stages,
    can_compare_train: bool = False,
) -> Evaluation:
    """Does once what all runs share; every rank has to call it.

    Args:
        protocol: What is measured on.
        chosen: Names of the parts to do.
        spaces: Feature spaces of the distances.
        fid_weights: As ``find_inception_weights`` takes it.
        accelerator: Ranks and device.
        stages: Where the time goes.
        can_compare_train: Whether some run that samples was trained on this data set.

    Raises:
        UserError: Weights that cannot be loaded, or a damaged data set.
    """
    report = ReportContext(protocol, accelerator.device)
    evaluation = Evaluation(report, chosen, accelerator, stages)
    needs = features_of(evaluation.parts)
    if needs is not None:
        framing = Framing.of(protocol.dataset.manifest)
        loaded, absent = _load_spaces(spaces, fid_weights, needs, framing, accelerator)
        report = replace(report, spaces=loaded, absent_spaces=absent)
        report = _with_features(report, needs, can_compare_train, accelerator, stages)
    prepared = {}
    for part in evaluation.parts:
        if part.prepare is not None:
            with stages.stage(part.prepare.title):
                prepared[part.name] = main_does(partial(part.prepare.make, report))
    return replace(evaluation, report=replace(report, prepared=prepared))


def _load_spaces(
    chosen: Collection[Space], fid_weights: str, needs: Features, framing: Framing | None, accelerator: Accelerator
) -> tuple[list[FeatureSpace], dict[str, str]]:
    """The feature spaces that are needed, and by its name why one of them cannot be had."""
    first = all_do(lambda: load_efflite0(accelerator.device))
    check_same(first.sha256, f"the file of weights of {frechet_name(first.name)}")
    if Amount.ALL not in (needs.split, needs.samples):
        return [first], {}
    with accelerator.local_main_process_first():  # One download a machine.
        found = {
            name: space.find(fid_weights) if name in chosen else (None, NOT_CHOSEN)
            for name, space in OPTIONAL_SPACES.items()
        }
    absent = _absent({name: reason for name, (_, reason) in found.items()})
    spaces = [first]
    for name, (path, _) in found.items():
        if path is not None and not absent[name]:
            space = all_do(partial(OPTIONAL_SPACES[name].load, path, accelerator.device, framing))
            check_same(space.sha256, f"the file of weights of {frechet_name(name)}")
            spaces.append(space)
    return spaces, {name: reason for name, reason in absent.items() if reason}


def _absent(reasons: dict[str, str]) -> dict[str, str]:
    """By its name why a space is absent on some rank, and empty where all ranks have it.

    All ranks or none: those of a machine without the weights would wait for the others forever.
    """
    (_, absent), *others = gather_object([(here(), reasons)])
    for place, theirs in others:
        absent = {
            name: absent[name] or (reason and f"{reason.rstrip('.')} ({place})") for name, reason in theirs.items()
        }
    return absent


def _with_features(
    report: ReportContext, needs: Features, can_compare_train: bool, accelerator: Accelerator, stages: Stages
) -> ReportContext:
    """Adds the features of the split and of training images."""
    protocol, spaces = report.protocol, report.spaces
    dataset, batch_size = protocol.dataset, protocol.batch_size
    if needs.split:
        num = protocol.num_images if needs.split == Amount.ALL else min(protocol.num_images, NUM_QUERIES)
        with stages.stage(f"features of {protocol.split}"):
            features = reference_features(dataset, protocol.split, num, spaces, batch_size, accelerator)
        report = replace(report, split_features=features)
    if needs.reference and protocol.reference is not None:
        with stages.stage(f"features of {protocol.reference}"):
            features = splits_features(dataset, protocol.reference_splits, spaces, batch_size, accelerator)
        report = replace(report, other_reference=features)
    if needs.train and can_compare_train and "train" in dataset.splits:
        num = min(protocol.num_train, dataset.num_samples("train"))
        with stages.stage("features of train"):
            features = reference_features(dataset, "train", num, spaces[:1], batch_size, accelerator)
        report = replace(report, train_features=features)
    return report
