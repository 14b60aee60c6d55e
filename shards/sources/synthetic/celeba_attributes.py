"""CelebA's attribute names (Liu et al., 2015) for what a rendered face visibly has."""

from __future__ import annotations

from collections.abc import Callable

from shards.sources.synthetic.factors import Factors
from shards.sources.synthetic.geometry import mouth_gap

SMILING_DEGREE = 0.2
"""A smile degree above this counts as ``Smiling``."""

_HAIRLINE_HIDDEN = ("bald", "fringe")

ATTRIBUTES: dict[str, tuple[str, Callable[[Factors], bool]]] = {
    "5_o_Clock_Shadow": ("beard is stubble", lambda f: f.beard == "stubble"),
    "Arched_Eyebrows": ("brow_arch > 0.4", lambda f: f.brow_arch > 0.4),
    "Bald": ("hair_style is bald", lambda f: f.hair_style == "bald"),
    "Bangs": ("hair_style is fringe", lambda f: f.hair_style == "fringe"),
    "Big_Lips": ("lip_thickness > 0.4", lambda f: f.lip_thickness > 0.4),
    "Big_Nose": ("nose_width > 0.4", lambda f: f.nose_width > 0.4),
    "Black_Hair": ("hair_color is black, not bald", lambda f: _has_hair(f, "black")),
    "Blond_Hair": ("hair_color is blond, not bald", lambda f: _has_hair(f, "blond")),
    "Brown_Hair": ("hair_color is brown, not bald", lambda f: _has_hair(f, "brown")),
    "Bushy_Eyebrows": ("brow_thickness > 0.4", lambda f: f.brow_thickness > 0.4),
    "Chubby": ("face_width > 0.6", lambda f: f.face_width > 0.6),
    "Eyeglasses": ("glasses is not none", lambda f: f.glasses != "none"),
    "Goatee": ("beard is goatee", lambda f: f.beard == "goatee"),
    "Gray_Hair": ("hair_color is gray, not bald", lambda f: _has_hair(f, "gray")),
    "Male": ("presentation > 0: features drawn masculine", lambda f: f.presentation > 0),
    "Mouth_Slightly_Open": ("the lips visibly part", lambda f: mouth_gap(f) > 0.008),
    "Mustache": ("beard is moustache, goatee or full", lambda f: f.beard in ("moustache", "goatee", "full")),
    "Narrow_Eyes": ("eye_size < -0.5", lambda f: f.eye_size < -0.5),
    "No_Beard": ("beard is none or moustache", lambda f: f.beard in ("none", "moustache")),
    "Oval_Face": ("jaw < -0.2 and face_width < 0.2", lambda f: f.jaw < -0.2 and f.face_width < 0.2),
    "Pale_Skin": ("skin < 0.1", lambda f: f.skin < 0.1),
    "Receding_Hairline": (
        "forehead > 0.6, hairline visible",
        lambda f: f.forehead > 0.6 and f.hair_style not in _HAIRLINE_HIDDEN,
    ),
    "Rosy_Cheeks": ("blush > 0.6", lambda f: f.blush > 0.6),
    "Smiling": (f"smile > {SMILING_DEGREE}", lambda f: f.smile > SMILING_DEGREE),
    "Straight_Hair": ("hair_style is bob, long or fringe", lambda f: f.hair_style in ("bob", "long", "fringe")),
    "Wavy_Hair": ("hair_style is wavy or curly", lambda f: f.hair_style in ("wavy", "curly")),
    "Wearing_Lipstick": ("lipstick", lambda f: f.lipstick),
    "Young": ("age < 0.5", lambda f: f.age < 0.5),
}


def attributes_of(factors: Factors) -> dict[str, bool]:
    """Every attribute of a face, by CelebA's name."""
    return {name: rule(factors) for name, (_, rule) in ATTRIBUTES.items()}


def _has_hair(factors: Factors, color: str) -> bool:
    return factors.hair_style != "bald" and factors.hair_color == color
