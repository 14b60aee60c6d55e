"""The ground-truth factors of a procedural face: their names, their values and who shares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SMILE_TEETH = 0.35
"""Smile degree above which a closed mouth parts and shows teeth."""

FactorKind = Literal["float", "bool", "class"]
FactorLevel = Literal["identity", "habit", "image"]

HAIR_STYLES = ("bald", "short", "side_part", "curly", "bob", "long", "wavy", "bun", "fringe")
HAIR_COLORS = ("black", "brown", "blond", "red", "gray")
EYE_COLORS = ("brown", "hazel", "green", "blue", "gray")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square")


@dataclass(frozen=True)
class Factors:
    """Everything that a picture depends on. ``FACTORS`` has the ranges and meanings; 0 is the average face."""

    skin: float = 0.3
    presentation: float = 0.0
    age: float = 0.3
    face_width: float = 0.0
    face_length: float = 0.0
    jaw: float = 0.0
    forehead: float = 0.0
    eye_size: float = 0.0
    eye_spacing: float = 0.0
    eye_tilt: float = 0.0
    eye_color: str = "brown"
    brow_thickness: float = 0.0
    brow_arch: float = 0.0
    nose_width: float = 0.0
    nose_length: float = 0.0
    lip_thickness: float = 0.0
    mouth_width: float = 0.0
    ear_size: float = 0.0
    blush: float = 0.3
    lipstick: bool = False
    hair_color: str = "brown"
    hair_tone: float = 0.0
    hair_style: str = "short"
    beard: str = "none"
    glasses: str = "none"
    smile: float = 0.0
    mouth_open: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0
    scale: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    light: float = 0.0
    light_height: float = 0.0
    background_hue: float = 0.58
    background_lightness: float = 0.5
    clothes_hue: float = 0.6


@dataclass(frozen=True)
class FactorSpec:
    """One factor: its kind and range, the level at which it is drawn, and the factors its distribution depends on.

    Attributes:
        name: Field of ``Factors``.
        kind: A ``float`` is drawn uniformly over [low, high].
        level: ``identity`` factors are shared by all images of a person, ``habit`` factors by most of them.
        low: Smallest value of a float.
        high: Largest value of a float.
        classes: Values of a class.
        depends_on: Factors that change this one's distribution; all other pairs are independent.
        description: What it changes in the picture.
    """

    name: str
    kind: FactorKind
    level: FactorLevel
    description: str
    low: float = -1.0
    high: float = 1.0
    classes: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()


FACTORS: tuple[FactorSpec, ...] = (
    FactorSpec("skin", "float", "identity", "skin tone, 0 pale to 1 dark", low=0.0),
    FactorSpec("presentation", "float", "identity", "-1 feminine to 1 masculine: jaw, brows, lips, lashes, neck"),
    FactorSpec("age", "float", "identity", "0 young adult to 1 old: folds, forehead lines, eye bags", low=0.0),
    FactorSpec("face_width", "float", "identity", "narrow to wide head"),
    FactorSpec("face_length", "float", "identity", "short to long lower face"),
    FactorSpec("jaw", "float", "identity", "pointed to square jaw"),
    FactorSpec("forehead", "float", "identity", "low to high hairline"),
    FactorSpec("eye_size", "float", "identity", "narrow to large eyes"),
    FactorSpec("eye_spacing", "float", "identity", "close to wide-set eyes"),
    FactorSpec("eye_tilt", "float", "identity", "outer eye corners low to high"),
    FactorSpec("eye_color", "class", "identity", "color of the iris", classes=EYE_COLORS),
    FactorSpec("brow_thickness", "float", "identity", "thin to bushy brows"),
    FactorSpec("brow_arch", "float", "identity", "flat to arched brows"),
    FactorSpec("nose_width", "float", "identity", "narrow to wide nose"),
    FactorSpec("nose_length", "float", "identity", "short to long nose"),
    FactorSpec("lip_thickness", "float", "identity", "thin to full lips"),
    FactorSpec("mouth_width", "float", "identity", "narrow to wide mouth"),
    FactorSpec("ear_size", "float", "identity", "small to large ears"),
    FactorSpec("blush", "float", "identity", "0 no to 1 rosy cheeks", low=0.0),
    FactorSpec("lipstick", "bool", "identity", "red lips", depends_on=("presentation",)),
    FactorSpec("hair_color", "class", "identity", "hair, brows and beard", classes=HAIR_COLORS, depends_on=("age",)),
    FactorSpec("hair_tone", "float", "identity", "darker to lighter shade of the hair color"),
    FactorSpec("hair_style", "class", "habit", "hair style", classes=HAIR_STYLES, depends_on=("presentation",)),
    FactorSpec("beard", "class", "habit", "facial hair", classes=BEARDS, depends_on=("presentation",)),
    FactorSpec("glasses", "class", "habit", "frame of the glasses", classes=GLASSES),
    FactorSpec("smile", "float", "image", "degree of smile: mouth corners down at -1, broad smile with teeth at 1"),
    FactorSpec("mouth_open", "float", "image", "parted lips, 0 to 1, beside what the smile opens", low=0.0),
    FactorSpec("yaw", "float", "image", "head turn; 1 is 22 degrees towards the right edge of the picture"),
    FactorSpec("roll", "float", "image", "head tilt; 1 is 5 degrees clockwise"),
    FactorSpec("scale", "float", "image", "size of the head in the frame, 1 is 6 % larger"),
    FactorSpec("shift_x", "float", "image", "1 is 3 % of the picture's width to the right"),
    FactorSpec("shift_y", "float", "image", "1 is 2 % of the picture's height down"),
    FactorSpec("light", "float", "image", "where the light comes from; -1 is 65 degrees left, 1 is 65 degrees right"),
    FactorSpec("light_height", "float", "image", "elevation of the light, -1 is 5 and 1 is 55 degrees above the eyes"),
    FactorSpec("background_hue", "float", "image", "hue of the background on the color circle, 0 is red", low=0.0),
    FactorSpec("background_lightness", "float", "image", "0 dark to 1 light background", low=0.0),
    FactorSpec("clothes_hue", "float", "image", "hue of the clothes on the color circle", low=0.0),
)
SPECS: dict[str, FactorSpec] = {spec.name: spec for spec in FACTORS}
