"""The procedural face source: pictures that follow their factors, and factors that follow their distributions."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from shards.sources.synthetic import FACTORS, SPECS, Factors, render
from shards.sources.synthetic.celeba_attributes import ATTRIBUTES
from shards.sources.synthetic.factors import HAIR_STYLES
from shards.sources.synthetic.geometry import geometry_of, pose_of
from shards.sources.synthetic.sampling import value_at
from shards.sources.synthetic.source import SyntheticConfig, SyntheticSource, factor_names, factors_of

REPOSITORY = Path(__file__).resolve().parents[4]
PLAIN = Factors(presentation=0.5, hair_style="short", age=0.2)


def picture(size: int = 64, base: Factors = PLAIN, **changes: object) -> np.ndarray:
    """A face as float64, 0 to 255."""
    return render(replace(base, **changes), size).astype(np.float64)


def change(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Where two pictures differ: (size, size), the largest difference over channels."""
    return np.abs(first - second).max(axis=2)


def frame_row(y: float, size: int = 64) -> int:
    """Row of the picture that shows the head coordinate y of the plain face."""
    pose = pose_of(PLAIN)
    return int((pose.shift_y + pose.scale * y + 1) * size / 2)


def source(size: int = 64, **options: object) -> SyntheticSource:
    return SyntheticSource(SyntheticConfig(**options), size)  # type: ignore[arg-type]


# The renderer


@pytest.mark.parametrize("size", [16, 37, 64, 200, 1024])
def test_renders_every_size(size: int) -> None:
    image = render(PLAIN, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.std() > 20


@pytest.mark.parametrize("size", [0, 15, 1025])
def test_refuses_other_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="between 16 and 1024"):
        render(PLAIN, size)
    with pytest.raises(ValueError, match="between 16 and 1024"):
        source(size=size)


def test_sizes_show_the_same_picture() -> None:
    faces = source(num=40, num_identities=40)
    for position in range(40):
        factors = factors_of(faces[position])
        small = picture(64, factors)
        large = picture(128, factors).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        error = np.mean((small - large) ** 2)
        other = np.mean((small - np.roll(large, 1, axis=1)) ** 2)
        assert error < 50, f"position {position}"
        # A render that is off by a fraction of a pixel would resemble the shifted picture.
        assert error < other / 8, f"position {position}"


def test_no_face_divides_by_zero_or_overflows() -> None:
    faces = source(num=60, num_identities=60)
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        for position in range(60):
            faces.load(faces[position])
        for style in HAIR_STYLES:
            render(Factors(hair_style=style, yaw=1.0, scale=-1.0, shift_y=-1.0), 100)


def test_values_out_of_range_do_not_wrap_around() -> None:
    """An overflow would put dark pixels among bright ones."""
    image = picture(128, skin=0.0, light_height=1.0, hair_style="bald", background_lightness=1.0)
    forehead = image[40:52, 56:72]
    assert forehead.min() > 150


@pytest.mark.parametrize("name", [spec.name for spec in FACTORS])
@pytest.mark.parametrize("presentation", [-0.8, 0.8])
def test_every_factor_shows(name: str, presentation: float) -> None:
    base = replace(PLAIN, presentation=presentation)
    ends = [picture(64, base, **{name: value_at(SPECS[name], step, 4)}) for step in (0, 2)]
    assert change(*ends).max() > 8


def test_smile_changes_only_the_face_below_the_brows() -> None:
    neutral, grin = picture(smile=0.0), picture(smile=1.0)
    difference = change(neutral, grin)
    assert difference[: frame_row(-0.26)].max() == 0
    lower, upper = difference[frame_row(0.2) :], difference[: frame_row(0.2)]
    assert lower.sum() > 2 * upper.sum()
    mouth = (slice(frame_row(0.42), frame_row(0.56)), slice(28, 36), 2)
    assert grin[mouth].max() > neutral[mouth].max() + 25  # teeth have more blue than skin


def corner_row(smile: float, size: int = 256) -> float:
    """Mean row of the darkest pixels near the mouth's corners."""
    image = picture(size, smile=smile, lip_thickness=-0.5).sum(axis=2)
    geometry, pose = geometry_of(replace(PLAIN, smile=smile, lip_thickness=-0.5)), pose_of(PLAIN)
    rows = slice(frame_row(geometry.mouth_y - 0.11, size), frame_row(geometry.mouth_y + 0.11, size))
    columns = [int((1 + side * pose.scale * 0.88 * geometry.mouth_width) * size / 2) for side in (-1, 1)]
    return float(np.mean([rows.start + image[rows, column].argmin() for column in columns]))


def test_mouth_corners_rise_with_the_smile() -> None:
    rows = [corner_row(smile) for smile in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert all(lower > higher for lower, higher in zip(rows, rows[1:], strict=False)), rows
    assert rows[0] - rows[-1] > 6  # pixels of 256


@pytest.mark.parametrize("style", ["round", "square"])
def test_glasses_darken_a_ring_around_the_eyes(style: str) -> None:
    bare, glasses = picture(128), picture(128, glasses=style)
    difference = change(bare, glasses)
    assert difference[frame_row(-0.2, 128) : frame_row(0.24, 128)].max() > 80
    assert difference[: frame_row(-0.24, 128)].max() == 0
    assert difference[frame_row(0.3, 128) :].max() == 0
    below_the_eyes = slice(frame_row(0.10, 128), frame_row(0.17, 128))
    assert glasses[below_the_eyes].mean() < bare[below_the_eyes].mean() - 5


def test_light_brightens_the_side_it_comes_from() -> None:
    left, right = picture(light=-0.9), picture(light=0.9)
    face = slice(frame_row(-0.3), frame_row(0.6))
    left_half, right_half = slice(16, 32), slice(32, 48)
    assert left[face, left_half].mean() > left[face, right_half].mean() + 15
    assert right[face, right_half].mean() > right[face, left_half].mean() + 15
    assert np.abs(left[:, ::-1] - right).mean() < 8  # mirrored lights give nearly mirrored pictures


def test_background_changes_nothing_on_the_face() -> None:
    difference = change(picture(background_hue=0.1), picture(background_hue=0.6, background_lightness=0.9))
    assert difference[frame_row(-0.4) : frame_row(0.6), 22:42].max() == 0
    assert difference[:8, :8].min() > 20


def test_yaw_moves_the_nose_more_than_the_ears_and_narrows_the_far_eye() -> None:
    """Measured on the pixels that eye color and nose length change."""
    size = 256

    def columns(yaw: float, **changed: object) -> np.ndarray:
        base = replace(PLAIN, yaw=yaw)
        return change(picture(size, base), picture(size, base, **changed)).sum(axis=0)

    def near_half(weights: np.ndarray) -> np.ndarray:
        return weights * (np.arange(size) < size // 2)  # the far ear disappears behind the head

    def center(weights: np.ndarray) -> float:
        return float((weights * np.arange(size)).sum() / weights.sum())

    nose = center(columns(0.9, nose_width=1.0)) - center(columns(0.0, nose_width=1.0))
    ear = center(near_half(columns(0.9, ear_size=1.0))) - center(near_half(columns(0.0, ear_size=1.0)))
    assert nose > 20  # pixels
    assert nose > 2 * abs(ear)

    iris = columns(0.9, eye_color="blue") > 30
    middle = int(center(columns(0.9, eye_color="blue")))
    near, far = iris[:middle].sum(), iris[middle:].sum()
    assert 0 < far < near


def test_hair_color_and_skin_color_reach_their_places() -> None:
    blond, black = picture(hair_color="blond"), picture(hair_color="black")
    crown = (slice(frame_row(-0.7), frame_row(-0.55)), slice(28, 36))
    assert blond[crown].mean() > black[crown].mean() + 60
    pale, dark = picture(skin=0.0), picture(skin=1.0)
    cheek = (slice(frame_row(0.15), frame_row(0.3)), slice(20, 26))
    assert pale[cheek].mean() > dark[cheek].mean() + 80


def test_beard_darkens_the_chin() -> None:
    bare, full = picture(hair_color="black"), picture(hair_color="black", beard="full")
    chin = (slice(frame_row(0.6), frame_row(0.7)), slice(28, 36))
    assert full[chin].mean() < bare[chin].mean() - 50
    assert change(bare, full)[: frame_row(-0.08)].max() == 0


# The source


def test_images_are_a_function_of_seed_and_position() -> None:
    first, second = source(num=50, seed=3), source(num=50, seed=3)
    for position in (49, 0, 17):
        assert first[position] == second[position]
        assert np.array_equal(first.load(first[position]), second.load(second[position]))
    other = source(num=50, seed=4)
    assert first[0].labels != other[0].labels


def digest(faces: SyntheticSource) -> str:
    """Hash of labels and pixels of a few items."""
    state = hashlib.sha256()
    for position in range(0, len(faces), 7):
        item = faces[position]
        state.update(repr((item.key, sorted(item.labels.items()))).encode())
        state.update(faces.load(item).tobytes())
    return state.hexdigest()


def test_another_process_makes_the_same_images() -> None:
    code = "from test_synthetic import *; print(digest(source(num=60, seed=5, correlate=('smile', 'presentation'))))"
    command = [sys.executable, "-c", code]
    path = os.pathsep.join([str(REPOSITORY), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONPATH": path}
    output = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == digest(source(num=60, seed=5, correlate=("smile", "presentation")))


def test_pickled_source_and_items_load_the_same() -> None:
    faces = source(num=20)
    copy, item = pickle.loads(pickle.dumps((faces, faces[11])))
    assert np.array_equal(copy.load(item), faces.load(faces[11]))
    assert len(pickle.dumps(source(num=10**9, num_identities=10))) < 20_000  # no list of items


def test_labels_fit_the_schema() -> None:
    faces = source(num=100)
    items = [faces[position] for position in range(100)]
    assert len({item.key for item in items}) == 100
    for name, label in faces.fields.items():
        column = label.encode([item.labels[name] for item in items])
        assert column.dtype == label.dtype
        if name in SPECS and label.kind == "float":
            assert column.min() >= SPECS[name].low
            assert column.max() <= SPECS[name].high
    assert all(set(item.labels) == set(faces.fields) for item in items)
    with pytest.raises(IndexError):
        faces[100]


def test_labels_are_the_factors() -> None:
    faces = source(num=30)
    for position in range(30):
        item = faces[position]
        for name, value in asdict(factors_of(item)).items():
            assert item.labels[name] == value
    assert list(factor_names()) == list(asdict(PLAIN))


def test_attributes_follow_the_factors() -> None:
    faces = source(num=600, num_identities=300)
    rows = [faces[position].labels for position in range(600)]
    for row in rows:
        assert row["Smiling"] == (row["smile"] > 0.2)  # type: ignore[operator]
        assert row["Eyeglasses"] == (row["glasses"] != "none")
        assert row["Bald"] == (row["hair_style"] == "bald")
        colors = sum(bool(row[name]) for name in ("Black_Hair", "Brown_Hair", "Blond_Hair", "Gray_Hair"))
        assert colors == (row["hair_style"] != "bald" and row["hair_color"] != "red")
        assert not (row["Goatee"] and row["No_Beard"])
        assert row["Mouth_Slightly_Open"] or not row["smile"] > 0.6  # type: ignore[operator]
    for name in ATTRIBUTES:
        assert 0 < sum(bool(row[name]) for row in rows) < 600, name


def test_a_person_keeps_the_identity_factors() -> None:
    faces = source(num=120, num_identities=6)
    by_person: dict[object, list[Factors]] = {}
    for position in range(120):
        by_person.setdefault(faces[position].labels["identity"], []).append(factors_of(faces[position]))
    assert len(by_person) == 6
    for images in by_person.values():
        assert len(images) == 20
        for spec in FACTORS:
            values = [getattr(factors, spec.name) for factors in images]
            if spec.level == "identity":
                assert len(set(values)) == 1, spec.name
            elif spec.level == "image":
                assert len(set(values)) == 20, spec.name
    people = [images[0] for images in by_person.values()]
    assert len({person.face_width for person in people}) == 6
    styles = [[factors.hair_style for factors in images] for images in by_person.values()]
    kept = sum(max(row.count(style) for style in row) for row in styles) / 120
    assert kept > 0.7


def columns_of(faces: SyntheticSource, *names: str) -> np.ndarray:
    """Float labels of all items: (number of names, number of items)."""
    labels = [faces[position].labels for position in range(len(faces))]
    return np.array([[row[name] for row in labels] for name in names], dtype=np.float64)


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Kolmogorov-Smirnov distance to the uniform distribution, below the 0.1 % critical value."""
    ordered = (np.sort(values) - low) / (high - low)
    grid = np.arange(1, len(values) + 1) / len(values)
    assert np.abs(ordered - grid).max() < 1.95 / np.sqrt(len(values))


@pytest.mark.parametrize("pair", [("smile", "presentation"), ("light", "yaw"), ("skin", "age")])
@pytest.mark.parametrize("correlation", [0.0, 0.8, -0.5])
def test_correlation_is_met_and_marginals_stay(pair: tuple[str, str], correlation: float) -> None:
    faces = source(num=1000, num_identities=1000, correlate=pair, correlation=correlation)
    first, second = columns_of(faces, *pair)
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(correlation, abs=0.08)
    for name, values in zip(pair, (first, second), strict=True):
        assert_uniform(values, SPECS[name].low, SPECS[name].high)


def test_held_factors_have_their_middle_value_and_do_not_change_the_others() -> None:
    free, held = source(num=40), source(num=40, hold=["yaw", "scale"])
    for position in range(40):
        factors = factors_of(held[position])
        assert (factors.yaw, factors.scale) == (0.0, 0.0)
        assert replace(factors_of(free[position]), yaw=0.0, scale=0.0) == factors


def test_held_factors_are_held_in_groups_of_persons_too() -> None:
    faces = source(num=44, num_identities=44, group_factor="identity", group_size=11, hold=["jaw", "yaw"])
    assert {(factors_of(faces[i]).jaw, factors_of(faces[i]).yaw) for i in range(44)} == {(0.0, 0.0)}


def test_without_the_option_independent_factors_are_uncorrelated() -> None:
    names = [spec.name for spec in FACTORS if spec.kind == "float"]
    table = np.corrcoef(columns_of(source(num=1200, num_identities=1200), *names))
    assert np.abs(table - np.eye(len(names))).max() < 0.12


def test_dependent_factors_follow_their_parents() -> None:
    faces = source(num=800, num_identities=800)
    rows = [factors_of(faces[position]) for position in range(800)]
    assert all(row.beard == "none" for row in rows if row.presentation < -0.3)
    assert any(row.beard != "none" for row in rows if row.presentation > 0.3)
    old = np.mean([row.hair_color == "gray" for row in rows if row.age > 0.8])
    young = np.mean([row.hair_color == "gray" for row in rows if row.age < 0.4])
    assert old > young + 0.3


@pytest.mark.parametrize("factor", ["smile", "yaw", "hair_style", "lipstick", "skin"])
def test_groups_vary_one_factor_over_its_whole_range(factor: str) -> None:
    faces = source(num=44, group_factor=factor, group_size=11, num_identities=3)
    for group in range(4):
        items = [faces[group * 11 + step] for step in range(11)]
        assert {item.labels["group"] for item in items} == {float(group)}
        assert {item.labels["group_factor"] for item in items} == {factor}
        assert len({item.labels["identity"] for item in items}) == 1
        tables = [asdict(factors_of(item)) for item in items]
        varying = {name for name in tables[0] if len({table[name] for table in tables}) > 1}
        assert varying == {factor}
        values, spec = [table[factor] for table in tables], SPECS[factor]
        if spec.kind == "float":
            assert np.allclose(values, np.linspace(spec.low, spec.high, 11))
        elif spec.kind == "class":
            assert [name for index, name in enumerate(values) if index == 0 or values[index - 1] != name] == list(
                spec.classes
            )
        else:
            assert values == sorted(values)
    labels = [asdict(factors_of(faces[group * 11])) for group in range(4)]
    assert labels[0]["background_hue"] != labels[1]["background_hue"]


def test_identity_groups_hold_everything_but_the_person() -> None:
    faces = source(num=60, group_factor="identity", group_size=5, num_identities=7)
    partitions = set()
    for group in range(12):
        items = [faces[group * 5 + step] for step in range(5)]
        assert len({item.labels["identity"] for item in items}) == 5
        assert len({item.partition for item in items}) == 1
        partitions.add(items[0].partition)
        rows = [factors_of(item) for item in items]
        for spec in FACTORS:
            if spec.level == "image":
                assert len({getattr(row, spec.name) for row in rows}) == 1, spec.name
        assert len({row.skin for row in rows}) == 5
    assert partitions == {"train", "val", "test"}
    assert faces.identity_field is None


def test_groups_of_several_factors_take_turns() -> None:
    names = ["smile", "yaw", "identity"]
    faces = source(num=360, group_factor=names, group_size=3, num_identities=60)
    assert faces.fields["group_factor"].classes == tuple(names)
    assert faces.identity_field is None
    people: dict[str, set[object]] = {name: set() for name in names}
    partitions: dict[str, list[object]] = {name: [] for name in names}
    for group in range(120):
        items = [faces[group * 3 + step] for step in range(3)]
        name = names[group % 3]
        assert {item.labels["group"] for item in items} == {float(group)}
        assert {item.labels["group_factor"] for item in items} == {name}
        tables = [asdict(factors_of(item)) for item in items]
        varying = {factor for factor in tables[0] if len({table[factor] for table in tables}) > 1}
        if name == "identity":
            assert all(SPECS[factor].level != "image" for factor in varying)
            assert len({item.labels["identity"] for item in items}) == 3
        else:
            assert varying == {name}
        people[name] |= {item.labels["identity"] for item in items}
        partitions[name].append(items[0].partition)
    # Every factor has its share of held-out groups, and as many people as groups.
    for name in names:
        assert [partitions[name].count(part) for part in ("train", "val", "test")] == [32, 4, 4]
    assert len(people["smile"]) == len(people["yaw"]) == 40 and len(people["identity"]) == 60


def test_one_factor_in_a_list_is_that_factor() -> None:
    alone, listed = (source(num=44, group_factor=factor, num_identities=3) for factor in ("yaw", ["yaw"]))
    assert all(alone[position] == listed[position] for position in range(44))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num": 0}, "--num must be at least 1"),
        ({"seed": -1}, "--seed"),
        ({"num": 5, "num_identities": 6}, "--num_identities"),
        ({"correlate": ("smile", "smlie")}, "did you mean 'smile'"),
        ({"correlate": ("smile", "smile")}, "two different factors"),
        ({"correlate": ("smile", "beard")}, "depends on presentation"),
        ({"correlate": ("smile", "yaw"), "correlation": 1.2}, "between -1 and 1"),
        ({"group_factor": "smiel"}, "did you mean 'smile'"),
        ({"group_factor": ["smile", "smiel"]}, "did you mean 'smile'"),
        ({"group_factor": ["smile", "yaw", "smile"]}, "must name different factors"),
        ({"group_factor": []}, "at least one"),
        ({"group_factor": "smile"}, "as 3993 or 4004"),
        ({"group_factor": "smile", "group_size": 1}, "at least 2"),
        ({"group_factor": "smile", "group_size": 10, "correlate": ("smile", "yaw")}, "varies evenly"),
        ({"hold": ["rol"]}, "did you mean 'roll'"),
        ({"hold": ["glasses"]}, "'glasses' is a class"),
        ({"hold": ["yaw"], "correlate": ("smile", "yaw")}, "another option makes vary"),
        ({"num": 40, "group_factor": "identity", "group_size": 10, "num_identities": 4}, "at least --group_size"),
    ],
)
def test_bad_options_say_what_to_do(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**options)  # type: ignore[arg-type]
