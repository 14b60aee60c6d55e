"""Face verification with LFW's protocol: ``python -m eval.verify RUN [RUN ...] --data DIR --pairs FILE --out DIR``.

Without a pairs file, pairs are drawn from the people that the data set names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from eval.base.runs import distinct_names
from eval.latent.options import open_data, save_png
from eval.verification.classifiers import CLASSIFIERS, LARGE_LATENTS, PairFeatures
from eval.verification.drawn_pairs import draw_pairs
from eval.verification.folds import CONTROL, CONTROL_TOLERANCE, Line, Scored, by_model, control
from eval.verification.output import Mistake, Verification, markdown, terminal, to_json
from eval.verification.pair_set import PairSet
from eval.verification.pairs_file import find_pairs, read_pairs_file
from eval.verification.roc import mistakes_sheet, roc_chart, worst_mistakes
from eval.verification.seen import seen_in_training
from facegen.model import load
from shards.base.errors import UserError
from shards.base.files import output_folder, write_bytes, write_json, writing_to
from shards.command_line import cli
from shards.dataset.dataset import Dataset

_NUM_MISTAKES = 10
_FEW_PER_FALSE_ACCEPT = 1000


@dataclass(kw_only=True)
class VerifyConfig:
    """Options of a verification."""

    runs: list[str]
    """Run directories (their newest snapshot) or snapshot directories, of models that encode."""
    data: str
    """Packed data set with the images of the pairs."""
    out: str
    """Directory for verify.json, verify.md, the ROC curves and the sheets of mistakes."""
    pairs: str | None = None
    """LFW's pairs.txt; without it, pairs are drawn from the labels."""
    num_pairs: int = 6000
    """Pairs to draw without a pairs file; fewer if the splits have no more."""
    split: list[str] = field(default_factory=lambda: ["test"])
    """One or more splits that hold both images of each pair."""
    all_splits: bool = False
    """Use the images of all splits, that is all of LFW's View 2; most of its people are in the training split."""
    identity: str = "identity"
    """Label of the person."""
    classifiers: list[str] = field(default_factory=lambda: list(CLASSIFIERS))
    """Classifiers to fit on pairs of latents, among LDA, QDA, SVM, 'logistic regression' and kNN; [] for none."""
    features: Literal["difference", "concatenation"] = "difference"
    """What classifiers see of a pair: the absolute difference of its latents, or both latents."""
    pca: Literal["auto", "none", "before", "after"] = "auto"
    """Whether classifiers see principal components of the latents (before) or of the features of pairs (after); auto is
    before for latents of more than 512 dims."""
    pca_components: int = 50
    """Maximum number of components."""
    batch_size: int = 64
    """Images per batch."""
    seed: int = 0
    """Seed of drawn pairs and of the control's random latents."""
    weights: Literal["ema", "raw"] | None = None
    """Moving average or trained weights; null takes the average if there is one."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a CUDA device if there is one."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        for name, at_least in (("num_pairs", 4), ("batch_size", 1), ("pca_components", 1)):
            if getattr(self, name) < at_least:
                raise ValueError(f"{name} must be at least {at_least}, not {getattr(self, name)}.")
        unknown = [name for name in self.classifiers if name not in CLASSIFIERS]
        if unknown:
            raise ValueError(f"there is no classifier {unknown[0]!r}; there are {', '.join(CLASSIFIERS)}.")
        if not self.split:
            raise ValueError("split must name at least one split.")

    @property
    def pair_features(self) -> PairFeatures:
        """The features that classifiers see."""
        return PairFeatures(self.features, self.pca, self.pca_components)


def main(args: Sequence[str] | None = None) -> None:
    """The command line."""
    config = cli.parse(
        VerifyConfig,
        prog="python -m eval.verify",
        description="Measures how well latents tell pairs of one person from pairs of two, in ten folds.",
        positional=["runs"],
        args=args,
    )
    models = _load_models(config)
    dataset = open_data(config.data, models[0][1], *([] if config.all_splits else config.split))
    for _, model in models[1:]:
        open_data(config.data, model)
    pairs, source = _choose_pairs(config, dataset)
    out = output_folder(config.out)
    result = verify(config, dataset, models, pairs, source, out)
    with writing_to(out):
        write_bytes(out / "verify.md", markdown(result).encode())
        write_json(out / "verify.json", to_json(result), indent=1)
    print(f"\n{terminal(result)}\nwrote {out / 'verify.json'}")


def verify(
    config: VerifyConfig, dataset: Dataset, models: Sequence[tuple[str, Any]], pairs: PairSet, source: str, out: Path
) -> Verification:
    """Measures all models and the control on the same pairs, and writes the pictures.

    Args:
        config: Options.
        dataset: Data set of the pairs.
        models: Models with distinct names.
        pairs: Pairs to judge.
        source: Where the pairs come from, in words.
        out: Directory of the pictures.
    """
    lines: list[Line] = []
    curves: list[Scored] = []
    seen, pictures, mistakes = {}, ["roc.svg"], []
    for label, model in models:
        scored, judged = by_model(
            label, model, dataset, pairs, config.classifiers, config.pair_features, config.batch_size
        )
        lines += [result.line for result in scored] + judged
        curves += scored
        seen[f"training of {label}"] = seen_in_training(model, dataset, pairs, config.identity)
        accepted, rejected = worst_mistakes(scored[0].margins, pairs.same, _NUM_MISTAKES)
        sheet = mistakes_sheet(dataset, pairs, accepted, rejected)
        if sheet is not None:
            pictures.append(f"mistakes_{re.sub('[^A-Za-z0-9._-]+', '_', label)}.png")
            save_png(str(out / pictures[-1]), sheet)
        mistakes += [_mistake(dataset, pairs, scored[0], pair) for pair in (*accepted.tolist(), *rejected.tolist())]
    controls = control(pairs, config.classifiers, config.pair_features, config.seed)
    title = f"Verification: {', '.join(label for label, _ in models)}: {_splits_title(config)}"
    with writing_to(out):
        write_bytes(out / "roc.svg", roc_chart(curves, pairs.same, "ROC of verification").encode())
    num_different = int((pairs.same == 0).sum())
    protocol = {
        "data set": f"{dataset.manifest.name}, fingerprint {dataset.fingerprint}",
        "pairs": source,
        "folds": f"{pairs.num_folds}; thresholds and classifiers come from the other folds; "
        "accuracy is the mean over folds ± its standard error, std that over folds",
        "EER, AUC, TAR": f"of the scores of all folds together, {num_different:,} pairs of two people",
        "latents": "the posterior's mean, not normalized",
        "classifiers": f"standardized {config.features} of latents, PCA {config.pca}"
        + (f" ({config.pca_components} components" if config.pca != "none" else "")
        + (f" of latents with more than {LARGE_LATENTS} dims" if config.pca == "auto" else "")
        + (")" if config.pca != "none" else ""),
        "seed": str(config.seed),
        **seen,
    }
    notes = _notes(num_different, controls)
    return Verification(title, protocol, lines + controls, notes, mistakes, pictures)


def _load_models(config: VerifyConfig) -> list[tuple[str, Any]]:
    """Loads the models and gives them distinct names."""
    use_cuda = config.device == "auto" and torch.cuda.is_available()
    models = [load(run, device="cuda" if use_cuda else "cpu", weights=config.weights) for run in config.runs]
    for model in models:
        if "encode" not in model.can:
            raise UserError(f"{model.name} is of the family {model.family}, which cannot encode; leave it out.")
    return list(zip(distinct_names(models), models, strict=True))


def _choose_pairs(config: VerifyConfig, dataset: Dataset) -> tuple[PairSet, str]:
    """The pairs, and where they come from in words."""
    splits = dataset.splits if config.all_splits else tuple(config.split)
    if config.pairs is not None:
        kept = find_pairs(read_pairs_file(Path(config.pairs)), dataset, splits)
        return kept.pairs, f"{Path(config.pairs).name}; {kept}"
    pairs = draw_pairs(dataset, splits, config.num_pairs, config.seed, config.identity)
    return pairs, f"{len(pairs.same):,} drawn from the label {config.identity}; no person is in two folds"


def _splits_title(config: VerifyConfig) -> str:
    if config.all_splits:
        return "ALL splits, so people whom models were trained on as well"
    splits = " and ".join(config.split)
    return f"{splits} split, WITH training images" if "train" in config.split else f"{splits} split, held out"


def _mistake(dataset: Dataset, pairs: PairSet, scored: Scored, pair: int) -> Mistake:
    line = scored.line
    return Mistake(line.run, line.method, pairs.keys(dataset, pair), int(pairs.same[pair]), float(scored.scores[pair]))


def _notes(num_different: int, controls: Sequence[Line]) -> list[str]:
    notes = []
    allowed = num_different // _FEW_PER_FALSE_ACCEPT
    if allowed < 10:
        pairs = f"{allowed} of the {num_different:,} pairs of two people"
        notes.append(f"a false accept rate of 0.001 is {pairs}: the TAR depends on very few pairs.")
    for line in controls:
        if abs(line.accuracy.mean - 0.5) > CONTROL_TOLERANCE:
            notes.append(
                f"WARNING: {CONTROL} reaches {100 * line.accuracy.mean:.1f} % with {line.method} and should stay at "
                f"50 +- {100 * CONTROL_TOLERANCE:.0f} %: do not trust this method's numbers."
            )
    return notes


if __name__ == "__main__":
    cli.run(main)
