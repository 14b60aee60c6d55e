"""From factors to the measurements of a face, in head units: eyes at y = 0, crown near -0.68, chin near 0.70."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shards.sources.synthetic.canvas import Pose
from shards.sources.synthetic.factors import SMILE_TEETH, Factors

_MAX_YAW_RAD = math.radians(22)
_MAX_ROLL_RAD = math.radians(5)
_MAX_LIGHT_RAD = math.radians(65)


@dataclass(frozen=True)
class Geometry:
    """Measurements of one face: names ending in ``_x`` and ``_y`` are positions, the others half widths or heights."""

    half_width: float
    """Of the head at the cheekbones, seen from the front."""
    crown_y: float
    chin_y: float
    jaw_square: float
    """Weight of the quartic term in the outline of the lower face."""
    jaw_taper: float
    neck: float
    hairline_y: float
    eye_x: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    """Rise of the outer corner over the inner one, as a slope."""
    brow_y: float
    brow_thickness: float
    brow_arch: float
    nose_width: float
    nose_y: float
    """Bottom of the nose."""
    mouth_y: float
    mouth_width: float
    lip_upper: float
    lip_lower: float
    corner_lift: float
    """How far the mouth corners lie above its middle; negative for a sad mouth."""
    mouth_gap: float
    """Half opening of the mouth at its middle."""
    yaw_rad: float
    chin_shift: float
    light: tuple[float, float, float]
    """Unit vector to the light: right, down, towards the viewer."""

    @property
    def sin_yaw(self) -> float:
        """Sine of the head's turn."""
        return math.sin(self.yaw_rad)


def pose_of(factors: Factors) -> Pose:
    """Where the head lies in the frame."""
    return Pose(
        shift_x=0.06 * factors.shift_x,
        shift_y=0.045 + 0.04 * factors.shift_y,
        scale=1.10 * (1.0 + 0.06 * factors.scale),
        roll_rad=_MAX_ROLL_RAD * factors.roll,
    )


def geometry_of(factors: Factors) -> Geometry:
    """The measurements that the factors give."""
    pres, smile = factors.presentation, factors.smile
    grin, frown = max(smile, 0.0), max(-smile, 0.0)
    chin_y = 0.725 + 0.062 * factors.face_length + 0.015 * pres
    nose_y = 0.300 + 0.045 * factors.nose_length
    lips = (1.0 + 0.55 * factors.lip_thickness) * (1.0 - 0.10 * pres) * (1.0 - 0.25 * signs_of_age(factors))
    return Geometry(
        half_width=0.518 + 0.060 * factors.face_width + 0.010 * pres,
        crown_y=-0.680,
        chin_y=chin_y,
        jaw_square=0.40 + 0.30 * factors.jaw + 0.12 * pres,
        jaw_taper=0.16 - 0.10 * factors.jaw - 0.04 * pres,
        neck=0.275 + 0.045 * pres + 0.015 * factors.face_width,
        hairline_y=-0.415 - 0.055 * factors.forehead,
        eye_x=0.222 + 0.030 * factors.eye_spacing,
        eye_width=0.124 + 0.015 * factors.eye_size,
        eye_height=(0.062 + 0.021 * factors.eye_size) * (1.0 - 0.06 * pres),
        eye_tilt=0.10 + 0.13 * factors.eye_tilt,
        brow_y=-0.150 - 0.012 * factors.eye_size + 0.012 * pres,
        brow_thickness=(0.025 + 0.014 * factors.brow_thickness) * (1.0 + 0.22 * pres),
        brow_arch=0.034 + 0.030 * factors.brow_arch - 0.008 * pres,
        nose_width=0.098 + 0.034 * factors.nose_width + 0.006 * pres,
        nose_y=nose_y,
        mouth_y=nose_y + (chin_y - nose_y) * 0.385,
        mouth_width=(0.178 + 0.032 * factors.mouth_width) * (1.0 + 0.24 * grin - 0.06 * frown),
        lip_upper=0.033 * lips * (1.0 - 0.30 * grin),
        lip_lower=0.047 * lips * (1.0 - 0.18 * grin),
        corner_lift=0.080 * grin - 0.046 * frown + 0.004,
        mouth_gap=mouth_gap(factors),
        yaw_rad=_MAX_YAW_RAD * factors.yaw,
        chin_shift=0.30 * math.sin(_MAX_YAW_RAD * factors.yaw),
        light=_light_vector(factors),
    )


def mouth_gap(factors: Factors) -> float:
    """Half height of the open mouth at its middle, in head units: smile and ``mouth_open`` add up."""
    grin = max(factors.smile - SMILE_TEETH, 0.0) / (1 - SMILE_TEETH)
    return 0.034 * grin * (2.0 - grin) + 0.034 * max(factors.mouth_open, 0.0) ** 2


def signs_of_age(factors: Factors) -> float:
    """Strength of lines and folds, 0 to 1; they start soon after youth and deepen linearly."""
    return max(factors.age - 0.15, 0.0) / 0.85


def _light_vector(factors: Factors) -> tuple[float, float, float]:
    azimuth = _MAX_LIGHT_RAD * factors.light
    elevation = math.radians(30 + 25 * factors.light_height)
    return (
        math.sin(azimuth) * math.cos(elevation),
        -math.sin(elevation),
        math.cos(azimuth) * math.cos(elevation),
    )
