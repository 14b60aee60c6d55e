"""The built-in source: procedural faces with ground truth, rendered from a seed."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from shards.dataset.manifest import LabelField
from shards.sources.base import Item, LabelValue, SourceEntry
from shards.sources.synthetic import FACTORS, SPECS, Factors, FactorSpec, render
from shards.sources.synthetic.celeba_attributes import ATTRIBUTES, attributes_of
from shards.sources.synthetic.portrait import check_size
from shards.sources.synthetic.sampling import correlated, factors_from, value_at

GENERATOR_VERSION = 1
"""Raised by every change of the pictures or labels of a given configuration."""

_HABIT_CHANGE = 0.15
"""Share of a person's images that break a habit, such as the usual hair style."""
_IDENTITY_STREAM, _IMAGE_STREAM = 0, 1
_LEVEL_RANK = {"identity": 0, "habit": 1, "image": 2}
_MAX_GROUPS = 2**24


@dataclass
class SyntheticConfig:
    """Procedural faces with ground-truth factors; needs no input."""

    num: int = 4000
    """Number of images."""
    seed: int = 0
    """Image i is a pure function of the seed and i: the same on every machine."""
    num_identities: int | None = None
    """Number of persons, who share shape, skin and hair; a tenth of the images unless given."""
    correlate: tuple[str, str] | None = None
    """Two factors to draw with a correlation, for bias studies, such as [smile, presentation]; each keeps its own
    distribution."""
    correlation: float = 0.8
    """Rank correlation of the two factors that --correlate names, -1 to 1."""
    group_factor: list[str] | str | None = None
    """Emit groups in which only this factor varies, in even steps over its whole range; "identity" gives groups of
    different persons with everything else the same. A list, such as [smile,yaw,identity], takes turns."""
    group_size: int = 11
    """Images in a group, with --group_factor."""
    hold: list[str] | None = None
    """Factors held at their middle value in every image, such as [yaw,roll,scale,shift_x,shift_y] for faces framed
    like aligned photographs."""

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ValueError(f"--num must be at least 1, not {self.num}.")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, it is {self.seed}.")
        if self.num_identities is not None and not 1 <= self.num_identities <= self.num:
            raise ValueError(f"--num_identities must lie between 1 and --num ({self.num}), not {self.num_identities}.")
        if self.correlate is not None:
            _check_correlate(self.correlate, self.correlation)
        if self.hold is not None:
            _check_hold(self.hold, {*self.group_factors, *(self.correlate or ())})
        if self.group_factor is not None:
            self._check_groups()

    @property
    def identities(self) -> int:
        """Number of persons, the default resolved."""
        return self.num_identities or max(1, self.num // 10)

    @property
    def group_factors(self) -> tuple[str, ...]:
        """The factors whose groups take turns; none without groups."""
        if self.group_factor is None:
            return ()
        return (self.group_factor,) if isinstance(self.group_factor, str) else tuple(self.group_factor)

    def _check_groups(self) -> None:
        factors = self.group_factors
        if len(set(factors)) < max(1, len(factors)):
            raise ValueError(f"--group_factor must name different factors, at least one, not {list(factors)}.")
        for factor in factors:
            if factor != "identity":
                _check_factor("--group_factor", factor)
        if self.group_size < 2:
            raise ValueError(f"--group_size must be at least 2, not {self.group_size}.")
        if self.num % self.group_size:
            whole = self.num // self.group_size * self.group_size
            nearest = f"{whole} or {whole + self.group_size}" if whole else f"{self.group_size}"
            raise ValueError(
                f"--num ({self.num}) must be a multiple of --group_size ({self.group_size}), as {nearest}."
            )
        if self.num // self.group_size > _MAX_GROUPS:
            raise ValueError(f"at most {_MAX_GROUPS} groups fit the float32 label 'group'; make several data sets.")
        if "identity" in factors and self.identities < self.group_size:
            raise ValueError(f"--num_identities ({self.identities}) must be at least --group_size ({self.group_size}).")
        for factor in set(self.correlate or ()) & set(factors):
            raise ValueError(f"--group_factor {factor} varies evenly in a group: --correlate cannot name it too.")


class SyntheticSource:
    """Faces rendered on demand. Implements ``shards.sources.base.Source``.

    Every factor is a label, and so is each CelebA attribute in ``ATTRIBUTES``. With groups there are also ``group``
    (index of the group; float32, exact up to 2^24) and ``group_factor`` (what varies in it).
    """

    name = "synthetic"
    crop: tuple[int, int, int, int] | None = None

    def __init__(self, config: SyntheticConfig, size: int) -> None:
        """Raises ValueError for a size that ``render`` refuses."""
        check_size(size)
        self.config = config
        self.size = size
        # Groups of different persons cannot be split by person: they are assigned to splits whole.
        self.identity_field: str | None = None if "identity" in config.group_factors else "identity"
        self.fields: dict[str, LabelField] = _schema(config)
        self.provenance: dict[str, Any] = {
            "generator": "facegen procedural faces",
            "generator_version": GENERATOR_VERSION,
            "config": asdict(config),
        }

    def __len__(self) -> int:
        return self.config.num

    def __getitem__(self, position: int) -> Item:
        """The item at a position, in O(1) and without rendering; ``ref`` holds its factors."""
        if not 0 <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} images")
        config = self.config
        if not config.group_factors:
            identity = position % config.identities
            factors, group = self._draw(identity, position), None
        else:
            group, step = divmod(position, config.group_size)
            identity, factors = self._grouped(group, step)
        folder = f"identity_{identity:06d}" if group is None else f"group_{group:06d}"
        return Item(
            key=f"{folder}/{position:09d}",
            labels=self._labels(identity, factors, group),
            ref=factors,
            partition=self._partition(group) if self.identity_field is None and group is not None else None,
        )

    def load(self, item: Item) -> np.ndarray:
        """Renders an item: uint8 (size, size, 3)."""
        return render(factors_of(item), self.size)

    def _grouped(self, group: int, step: int) -> tuple[int, Factors]:
        """Person and factors of one step of a group: all but the varied factor come from the group's own draw."""
        config = self.config
        round_, turn = divmod(group, len(config.group_factors))
        factor = self._group_factor(group)
        # Counted within each factor: persons that cycled with the turns would meet only a few of the factors.
        place = turn * -(-config.num // (config.group_size * len(config.group_factors))) + round_
        if factor == "identity":
            identity = (place * config.group_size + step) % config.identities
            common = self._draw(place % config.identities, group)
            own = factors_from(self._identity_uniforms(identity) | dict.fromkeys(self.config.hold or (), 0.5))
            held = {spec.name: getattr(common, spec.name) for spec in FACTORS if spec.level == "image"}
            return identity, replace(own, **held)
        identity = place % config.identities
        value = value_at(SPECS[factor], step, config.group_size)
        return identity, replace(self._draw(identity, group), **{factor: value})

    def _draw(self, identity: int, image: int) -> Factors:
        """Factors of an image of a person."""
        uniforms = self._identity_uniforms(identity)
        own, coins = _uniforms(self.config.seed, _IMAGE_STREAM, image, num_sets=2)
        for spec in FACTORS:
            if spec.level == "image" or (spec.level == "habit" and coins[spec.name] < _HABIT_CHANGE):
                uniforms[spec.name] = own[spec.name]
        if self.config.correlate is not None:
            # The factor that varies more freely is changed, so that a person keeps the identity factors.
            first, second = sorted(self.config.correlate, key=lambda name: _LEVEL_RANK[SPECS[name].level])
            uniforms[second] = correlated(uniforms[first], uniforms[second], self.config.correlation)
        uniforms |= dict.fromkeys(self.config.hold or (), 0.5)
        return factors_from(uniforms)

    def _identity_uniforms(self, identity: int) -> dict[str, float]:
        return _uniforms(self.config.seed, _IDENTITY_STREAM, identity, num_sets=1)[0]

    def _labels(self, identity: int, factors: Factors, group: int | None) -> dict[str, LabelValue]:
        labels: dict[str, LabelValue] = {"identity": _identity_name(identity)}
        labels |= {field.name: getattr(factors, field.name) for field in fields(factors)}
        labels |= attributes_of(factors)
        if group is not None:
            labels |= {"group": float(group), "group_factor": self._group_factor(group)}
        return labels

    def _group_factor(self, group: int) -> str:
        return self.config.group_factors[group % len(self.config.group_factors)]

    def _partition(self, group: int) -> str:
        """Eight of ten groups of each factor train, one validates, one tests."""
        return {8: "val", 9: "test"}.get(group // len(self.config.group_factors) % 10, "train")


def factor_names() -> dict[str, FactorSpec]:
    """The ground-truth factors with kind, range and description; those with an empty ``depends_on`` are independent."""
    return dict(SPECS)


def factors_of(item: Item) -> Factors:
    """The ground truth of an item of this source."""
    return item.ref


def _uniforms(seed: int, stream: int, index: int, num_sets: int) -> list[dict[str, float]]:
    """Sets of one uniform number a factor, from the stream of a person or an image."""
    sequence = np.random.SeedSequence(seed, spawn_key=(stream, index))
    numbers = np.random.Generator(np.random.PCG64(sequence)).random((num_sets, len(FACTORS))).tolist()
    return [dict(zip(SPECS, row, strict=True)) for row in numbers]


def _identity_name(identity: int) -> str:
    return f"person_{identity:06d}"


def _schema(config: SyntheticConfig) -> dict[str, LabelField]:
    names = tuple(_identity_name(identity) for identity in range(config.identities))
    schema = {"identity": LabelField("class", names, "the person: shares the factors of level identity")}
    for spec in FACTORS:
        ends = f" [{spec.low:g}, {spec.high:g}]" if spec.kind == "float" else ""
        schema[spec.name] = LabelField(spec.kind, spec.classes, spec.description + ends)
    for name, (rule, _) in ATTRIBUTES.items():
        schema[name] = LabelField("bool", description=rule)
    if config.group_factors:
        schema["group"] = LabelField("float", description="index of the group")
        schema["group_factor"] = LabelField("class", config.group_factors, "the factor that varies in the group")
    return schema


def _check_factor(option: str, name: str) -> None:
    if name in SPECS:
        return
    close = difflib.get_close_matches(name, SPECS, n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(SPECS)}."
    raise ValueError(f"{option}: there is no factor '{name}'; {advice}")


def _check_hold(names: list[str], varied: set[str]) -> None:
    for name in names:
        _check_factor("--hold", name)
        if SPECS[name].kind != "float":
            raise ValueError(f"--hold takes factors with a middle value, and '{name}' is a {SPECS[name].kind}.")
        if name in varied:
            raise ValueError(f"--hold cannot name '{name}', which another option makes vary.")


def _check_correlate(names: tuple[str, str], correlation: float) -> None:
    for name in names:
        _check_factor("--correlate", name)
        if SPECS[name].depends_on:
            parents = " and ".join(SPECS[name].depends_on)
            raise ValueError(f"--correlate cannot name '{name}', which already depends on {parents}; use {parents}.")
    if names[0] == names[1]:
        raise ValueError(f"--correlate needs two different factors, not '{names[0]}' twice.")
    if not -1 <= correlation <= 1:
        raise ValueError(f"--correlation must lie between -1 and 1, not {correlation:g}.")


SOURCE = SourceEntry(
    SyntheticConfig,
    SyntheticSource,
    elsewhere="synthetic faces are rendered, not fetched: python -m shards.pack synthetic OUTPUT",
)
