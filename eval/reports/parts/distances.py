"""How far samples and reconstructions are from the reference, mostly the split itself, in feature spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eval.features.feature_set import FeatureSet, FeatureSets
from eval.features.space_names import NOT_CHOSEN, SPACES, SpaceNames
from eval.metrics.density_coverage import NUM_DENSITY_NEIGHBORS, density_coverage
from eval.metrics.frechet import frechet_with_error
from eval.metrics.kernel import kernel_distance
from eval.metrics.precision_recall import precision_recall
from eval.reports.context import ReportContext
from eval.reports.part import Amount, Features, Measures, Part, missing
from eval.reports.results import Better, Measure, Metric
from eval.reports.run_context import RunContext
from eval.reports.statistic import SplitBatch, Statistic
from facegen.pixels import to_uint8

OTHERS = "other_reconstructions"
"""Reconstructions of training faces, which are other people than those of the split."""
IMAGES = ("samples", "reconstructions", OTHERS)
_MEASURES = ("frechet", "kernel", "precision", "recall", "density", "coverage")
_COPIES = "measured from training images, which copies of them come nearest to"
_TEACHER = "judged by its own teacher, so not ranked: the model was trained with this network's features"
FEW_IMAGES = 2048
"""Below this many images a Fréchet distance depends strongly on their number (its covariances lack rank)."""


def _add(features: FeatureSets, batch: SplitBatch) -> None:
    features.update(batch.report.spaces, batch.rows, to_uint8(batch.reconstructions))


RECONSTRUCTION_FEATURES = Statistic(
    lambda _, report: FeatureSets.empty(report.spaces), _add, lambda features: features, ("encode", "decode")
)


def keys(space: SpaceNames, images: str) -> tuple[str, ...]:
    """Keys of the measures of some images in a space, in the order of ``_MEASURES``; of others only the distances."""
    return tuple(f"{measure}_{space.name}_{images}" for measure in (_MEASURES[:2] if images == OTHERS else _MEASURES))


def group(images: str) -> str:
    """The group of the rows of some images."""
    return f"Distances: {'samples' if images == 'samples' else 'reconstructions'}"


def rows(images: str) -> list[Metric]:
    """The rows of some images."""
    found: list[Metric] = []
    prefix, suffix = "" if images == "samples" else "r", ", other faces" if images == OTHERS else ""
    source = "of reconstructed training faces, on one scale with samples" if images == OTHERS else "from the reference"
    error = "; ± is the standard error over resampled images"
    crowded = "how close to typical ones they lie; 1 for real images"
    inside = "share of these images inside the support of the reference"
    covered = "share of the reference inside the support"
    for space in SPACES:
        texts: list[tuple[str, Better, str, str]] = [
            (f"{prefix}{space.frechet}{suffix}", "lower", space.frechet_format, f"Fréchet distance {source}{error}"),
            (
                f"{prefix}{space.kernel}{suffix}",
                "lower",
                space.kernel_format,
                f"kernel distance {source}, mean of subsets{error}",
            ),
            (f"Precision-{space.label}", "higher", ".3f", inside),
            (f"Recall-{space.label}", "higher", ".3f", f"{covered} of these images"),
            (f"Density-{space.label}", "", ".3f", crowded),
            (f"Coverage-{space.label}", "higher", ".3f", "share of the reference near one"),
        ]
        found += [
            Metric(key, title, group(images), "", better, spec, help)
            for key, (title, better, spec, help) in zip(keys(space, images), texts, strict=False)
        ]
    if images == OTHERS:
        return found
    help = f"variance of {SPACES[0].name} features over that of the reference; near 0: few different images"
    return [*found, Metric(f"diversity_{images}", "Diversity", group(images), "", "", ".3f", help)]


def measure_samples(run: RunContext) -> Measures:
    """Of samples from the prior or from a fitted sampler."""
    measures = distances("samples", run.sample_features, run.report, run.family)
    return _judged(run, _noted(measures, _COPIES) if run.protocol.refers_to_training else measures)


def measure_reconstructions(run: RunContext) -> Measures:
    """Of reconstructions from mu: of the split itself, and of training faces."""
    paired = run.get(RECONSTRUCTION_FEATURES)
    measures = dict(distances("reconstructions", paired, run.report, run.family))
    if paired is not None and run.other_features is None:
        others = [key for space in SPACES for key in keys(space, OTHERS)]
        lacking = "needs a training split beside the evaluated one and the reference"
        return _judged(run, measures | missing(others, lacking))
    return _judged(run, {**measures, **distances(OTHERS, run.other_features, run.report, run.family)})


def _judged(run: RunContext, measures: Measures) -> Measures:
    """Marks the numbers of the space whose network is also in the model's loss: it was trained to be good there."""
    teacher = run.model.teacher
    own = {key for space in SPACES if space.name == teacher for images in IMAGES for key in keys(space, images)}
    judged = {key: measure for key, measure in measures.items() if key in own and measure.value is not None}
    unranked = {key: replace(measure, is_ranked=False) for key, measure in judged.items()}
    return {**measures, **_noted(unranked, _TEACHER)}


def _noted(measures: Measures, note: str) -> Measures:
    """The measures with a note in front of theirs."""
    noted = {
        key: replace(measure, note="; ".join(filter(None, (note, measure.note))))
        for key, measure in measures.items()
        if measure.value is not None
    }
    return {**measures, **noted}


def distances(images: str, features: FeatureSets | None, report: ReportContext, family: str) -> Measures:
    """Fréchet and kernel distances from the reference and, but for other faces, precision, recall, and diversity.

    Args:
        images: One of ``IMAGES``.
        features: Of these images; None where the model makes none.
        report: With the features of the reference, and why spaces are absent.
        family: Of the model.
    """
    reference = report.reference_features
    is_paired = images == "reconstructions" and report.other_reference is None
    measures: dict[str, Measure] = {}
    lacking = f"{family} makes no {'samples' if images == 'samples' else 'reconstructions'}"
    for space in SPACES:
        if space.name not in reference.sets:
            measures |= missing(keys(space, images), report.absent_spaces.get(space.name, NOT_CHOSEN))
        elif features is None:
            measures |= missing(keys(space, images), lacking)
        else:
            ours, theirs = features.sets[space.name], reference.sets[space.name]
            measures |= _in_space(keys(space, images), ours, theirs, is_paired)
    if images == OTHERS:
        return measures
    if features is None:
        return measures | missing([f"diversity_{images}"], lacking)
    first = SPACES[0].name
    return measures | {f"diversity_{images}": _diversity(features.sets[first], reference.sets[first])}


def _in_space(keys: Sequence[str], ours: FeatureSet, theirs: FeatureSet, is_paired: bool) -> Measures:
    num_images = min(ours.statistics.count, theirs.statistics.count)
    if num_images < 2:
        return missing(keys, "a distance needs at least 2 images on either side")
    few = f"only {num_images:,} images: compare it only with values at the same number"
    features = ours.bank.ordered(), theirs.bank.ordered()
    kernel = kernel_distance(*features, is_paired=is_paired)
    frechet = frechet_with_error(ours.statistics, theirs.statistics, features, is_paired)
    kernel_note = f"subsets of {kernel.subset_size:,}" if kernel.subset_size < 1000 else ""
    return {
        keys[0]: Measure(frechet.value, spread=frechet.error or None, note=few if num_images < FEW_IMAGES else ""),
        keys[1]: Measure(kernel.mean, spread=kernel.error or None, note=kernel_note),
        **(_fidelity(keys[2:], ours, theirs) if keys[2:] else {}),
    }


def _fidelity(keys: Sequence[str], ours: FeatureSet, theirs: FeatureSet) -> Measures:
    """Precision, recall, density and coverage of as many images on either side, since they depend on the numbers."""
    first, second = ours.bank.ordered(), theirs.bank.ordered()
    num_images = min(len(first), len(second))
    if num_images <= NUM_DENSITY_NEIGHBORS:
        return missing(keys, f"needs at least {NUM_DENSITY_NEIGHBORS + 1} images on either side")
    pair = first[:num_images], second[:num_images]
    note = f"of {num_images:,} images on either side: compare it only with values at the same number"
    values = (*precision_recall(*pair), *density_coverage(*pair))
    return {key: Measure(value, note=note) for key, value in zip(keys, values, strict=True)}


def _diversity(ours: FeatureSet, theirs: FeatureSet) -> Measure:
    """How much images vary, as the share of the reference's total variance of features."""
    if min(ours.statistics.count, theirs.statistics.count) < 2:
        return Measure(reason="a variance needs at least 2 images on either side")
    share = float(ours.statistics.covariance.trace() / theirs.statistics.covariance.trace())
    return Measure(max(0.0, share))  # Of equal images rounding leaves a variance below 0.


def warn(report: ReportContext) -> list[str]:
    """That few images bias the distances, and that a reference of training images favors copies."""
    protocol = report.protocol
    warnings = []
    if protocol.refers_to_training:
        warnings.append(
            "Samples are measured from images that runs were trained on, and copies of these come nearest; "
            "--spaces '[efflite0,face]' tells the share of copies."
        )
    if protocol.reference is not None and protocol.real_split is None:
        warnings.append("The reference holds all real faces, so none are left to show how near new ones come.")
    num = min(protocol.num_images, protocol.num_samples)
    if num >= FEW_IMAGES:
        return warnings
    return [
        *warnings,
        f"Fréchet distances are over {num:,} images, fewer than {FEW_IMAGES:,}: they are biased upwards and can be "
        "compared only with distances over the same number.",
    ]


PARTS = [
    Part(
        name="distances:samples",
        content="distances of samples from the reference",
        rows=rows("samples"),
        # The one whose value does not depend on the number of images first.
        summary=(*(key for space in SPACES for key in keys(space, "samples")[1::-1]), "diversity_samples"),
        measure=measure_samples,
        features=Features(split=Amount.ALL, samples=Amount.ALL, reference=True),
        warn=warn,
        of_stand_ins=True,
    ),
    Part(
        name="distances:reconstructions",
        content="distances of reconstructions from the reference",
        rows=[*rows("reconstructions"), *rows(OTHERS)],
        measure=measure_reconstructions,
        statistics=(RECONSTRUCTION_FEATURES,),
        features=Features(split=Amount.ALL, others=True, reference=True),
        warn=warn,
        of_stand_ins=True,
    ),
]
