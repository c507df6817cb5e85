"""Draws surface patterns: twelve textures that tint an object's own colour.

Every texture is a scalar relief field, -1 (towards black) .. 0 (the colour itself) .. 1 (towards
white). The one invariant: a pattern never changes the colour's name, so the mean of a tile stays
nearer to its own entry of `law.COLORS` than to any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

Rng = np.random.Generator
Field = np.ndarray
_BASE = 512  # side of the cached periodic noise fields


@cache
def _noise(along: float, across: float, seed: int) -> Field:
    """Periodic smooth noise of unit variance, blurred by `along` (rows) and `across` (columns)."""
    white = np.random.default_rng(seed).standard_normal((_BASE, _BASE))
    freq = 2 * np.pi * np.fft.fftfreq(_BASE)
    kernel = np.exp(-0.5 * ((freq[:, None] * along) ** 2 + (freq[None] * across) ** 2))
    field = np.fft.ifft2(np.fft.fft2(white) * kernel).real
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _axes(rng: Rng, size: int, tilt: float, zoom: float = 0.12) -> tuple[Field, Field]:
    """Pixel coordinates (u right, v down), turned by up to `tilt` radians, scaled, shifted."""
    angle, scale = rng.uniform(-tilt, tilt), rng.uniform(1 - zoom, 1 + zoom)
    line = np.arange(size, dtype=np.float32)
    cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    shift = rng.uniform(256, 512, 2).astype(np.float32)  # keeps both axes positive
    u = (cos * line)[None, :] + (sin * line)[:, None] + shift[0]
    v = (cos * line)[:, None] - (sin * line)[None, :] + shift[1]
    return u, v


def _sample(base: Field, u: Field, v: Field, scale: float = 1.0) -> Field:
    """The periodic noise `base` at (u, v)."""
    rows = (v * np.float32(scale)).astype(np.int32) & (_BASE - 1)
    columns = (u * np.float32(scale)).astype(np.int32) & (_BASE - 1)
    return base.ravel()[rows * _BASE + columns]


def _step(x: Field, width: float = 1.0) -> Field:
    """Anti-aliased step: 0 where x < -width / 2, 1 where x > width / 2."""
    return np.clip(x / np.float32(width) + np.float32(0.5), 0, 1)


def _table(rng: Rng, i: Field, j: Field, low: float, high: float) -> Field:
    """One uniform number per cell (i, j)."""
    table = rng.uniform(low, high, 64 * 64).astype(np.float32)
    return table[((i & 63) << 6) | (j & 63)]


def _cell(x: Field, pitch: float) -> tuple[Field, Field]:
    """Cell number and the offset from the cell's centre, for cells `pitch` wide."""
    number = (x / np.float32(pitch)).astype(np.int32)
    return number, x - (number.astype(np.float32) + np.float32(0.5)) * np.float32(pitch)


def _glossy(rng: Rng, size: int) -> Field:
    """Smooth, with soft bright diagonal bands."""
    u, v = _axes(rng, size, 0.15)
    _, d = _cell(v + rng.uniform(0.35, 0.8) * u, rng.uniform(44, 54))
    return 0.9 * np.exp(-((d / 6.5) ** 2)) + 0.2 * np.exp(-((d / 16) ** 2)) - 0.3


def _striped(rng: Rng, size: int) -> Field:
    """Bold horizontal racing stripes: one broad, one narrow, in one contrasting tint."""
    _, v = _axes(rng, size, 0.06)
    _, d = _cell(v, rng.uniform(22, 25))
    broad, narrow = _step(4.2 - abs(d)), _step(1.7 - abs(d - 8.2))
    tint = 0.85 if rng.random() < 0.5 else -0.75
    return tint * np.maximum(broad, narrow)


def _riveted(rng: Rng, size: int) -> Field:
    """Metal panels: dark seams every 18 px or so, a big dark rivet in each corner."""
    u, v = _axes(rng, size, 0.05)
    wide, high = rng.uniform(20, 22), rng.uniform(16, 18)
    (i, du), (j, dv) = _cell(u, wide), _cell(v, high)
    du_in, dv_in = wide / 2 - abs(du), high / 2 - abs(dv)
    seam = _step(1.1 - np.minimum(du_in, dv_in))
    rivet = _step(1.9 - np.hypot(du_in - 4.6, dv_in - 4.4))
    field = _table(rng, i, j, -0.12, 0.12) + 0.22 * _step(dv - high / 2 + 3.2)
    return np.where(seam + rivet > 0.3, -0.85 * np.maximum(seam, rivet), field)


def _camouflage(rng: Rng, size: int) -> Field:
    """Three flat tints in blobs of about 12 px."""
    u, v = _axes(rng, size, 3.0)
    first = _sample(_noise(9.0, 12.0, 1), u, v, 2.0)
    second = _sample(_noise(9.0, 12.0, 2), u, v, 2.0)
    dark = _step(first - 0.45, 0.25)
    return 0.6 * _step(second - 0.45, 0.25) * (1 - dark) - 0.65 * dark


def _furry(rng: Rng, size: int) -> Field:
    """Short strokes along the lie of the coat, over soft tufts."""
    u, v = _axes(rng, size, 0.5)
    strokes = _sample(_noise(9.0, 1.7, 3), u + 0.12 * abs(v % 26 - 13), v, 2.0)
    tufts = _sample(_noise(14.0, 14.0, 4), u, v, 2.0)
    return np.clip(0.36 * strokes + 0.12 * tufts, -0.75, 0.8)


def _spotted(rng: Rng, size: int) -> Field:
    """Dark round spots, 6-7 px across."""
    u, v = _axes(rng, size, 0.4)
    j, dv = _cell(v, 11.0)
    i, du = _cell(u + 5.5 * (j & 1), 12.0)
    du, dv = du - _table(rng, i, j, -1.7, 1.7), dv - _table(rng, i, j, -1.5, 1.5)
    return -0.85 * _step(_table(rng, i, j, 2.9, 3.9) - np.hypot(du, dv), 1.3)


def _tabby(rng: Rng, size: int) -> Field:
    """Dark, wavy, tapering vertical stripes."""
    u, v = _axes(rng, size, 0.12)
    wave = (
        u
        + 2.0 * np.sin(v * rng.uniform(0.16, 0.24))
        + 1.6 * _sample(_noise(16.0, 30.0, 5), u, v, 2.0)
    )
    _, d = _cell(wave, rng.uniform(11, 12.5))
    width = 2.1 + 1.1 * _sample(_noise(16.0, 10.0, 6), u, v, 2.0)
    return -0.8 * _step(np.minimum(width, 3.2) - abs(d), 1.3)


def _patched(rng: Rng, size: int) -> Field:
    """Large white and dark patches, about 25 px."""
    u, v = _axes(rng, size, 3.0)
    first = _sample(_noise(18.0, 18.0, 7), u, v, 2.0)
    second = _sample(_noise(18.0, 18.0, 8), u, v, 2.0)
    white = _step(first - 0.6, 0.12)
    return 0.97 * white - 0.82 * _step(second - 0.55, 0.12) * (1 - white)


def _brick(rng: Rng, size: int) -> Field:
    """Running-bond bricks, 13 x 7 px, pale mortar."""
    u, v = _axes(rng, size, 0.05)
    j, dv = _cell(v, 7.2)
    i, du = _cell(u + 6.8 * (j & 1), 13.6)
    edge = np.minimum(6.8 - abs(du), 3.6 - abs(dv))
    mortar = _step(0.95 - edge)
    return _table(rng, i, j, -0.42, -0.02) * (1 - mortar) + 0.85 * mortar


def _wooden(rng: Rng, size: int) -> Field:
    """Long horizontal planks: dark seams, streaks of grain, here and there a ringed knot."""
    u, v = _axes(rng, size, 0.04)
    j, dv = _cell(v, rng.uniform(14.5, 16.5))
    i, du = _cell(u + _table(rng, j, j * 0, 0, 44), 44.0)
    ku, kv = du - _table(rng, i, j, -12, 12), dv - _table(rng, j, i, -2, 2)
    knot = np.hypot(ku * 0.6, kv) + 40 * (_table(rng, i, j + 7, 0, 1) > 0.6)
    grain = _sample(_noise(2.2, 34.0, 11), u, v + 2.5 * np.exp(-((knot / 6) ** 2)) * kv, 2.0)
    field = np.clip(0.34 * grain - 0.1, -0.6, 0.5) + _table(rng, j, j * 0, -0.16, 0.16)
    field = np.where(knot < 4.6, np.where((knot > 2) & (knot < 3.4), 0.2, -0.7), field)
    return np.where(abs(dv) > 6.5, -0.9, field)


def _scaly(rng: Rng, size: int) -> Field:
    """Overlapping fish scales, 12 px wide: light at the root, a dark rim."""
    u, v = _axes(rng, size, 0.15)
    width, height, radius = 12.0, 5.6, 6.9
    k = (v / height).astype(np.int32)
    x = np.full_like(u, 9.0)
    for row in (k + 1, k, k - 1):  # an upper row lies on the one below it
        far = np.hypot(_cell(u + width / 2 * (row & 1), width)[1], v - row * height)
        x = np.where(far < radius, far, x)
    return 0.55 - 0.085 * x - 0.9 * _step(x - radius + 1.7, 1.4)


def _mosaic(rng: Rng, size: int) -> Field:
    """Small irregular tiles, strongly different tints, pale grout."""
    u, v = _axes(rng, size, 0.5)
    u = u + 1.1 * _sample(_noise(9.0, 9.0, 9), u, v, 1.0)
    v = v + 1.1 * _sample(_noise(9.0, 9.0, 10), u, v, 1.0)
    (i, du), (j, dv) = _cell(u, 7.6), _cell(v, 7.6)
    grout = _step(np.maximum(abs(du), abs(dv)) - 3.1)
    tint = _table(rng, i, j, -0.72, 0.5)
    return tint * (1 - grout) + 0.85 * grout


_FIELDS: dict[str, Callable[[Rng, int], Field]] = {
    "glossy": _glossy,
    "striped": _striped,
    "riveted": _riveted,
    "camouflage": _camouflage,
    "furry": _furry,
    "spotted": _spotted,
    "tabby": _tabby,
    "patched": _patched,
    "brick": _brick,
    "wooden": _wooden,
    "scaly": _scaly,
    "mosaic": _mosaic,
}
_SMOOTH = ("glossy", "furry")  # keep light and dark even on white and black
_DRIFT = 20.0  # how far, in grey levels, a tile's mean may leave the colour


def _ramp(color: tuple[int, int, int], smooth: bool) -> np.ndarray:
    """The 256 tints of `color`, from field -1 to field 1."""
    own, field = np.array(color, dtype=np.float64), np.linspace(-1, 1, 256)
    bright = own @ (0.3, 0.59, 0.11)
    if bright > 205 and not smooth:  # no room above: highlights become grey
        field = np.where(field > 0, -0.42 * field, field)
    elif bright < 60:  # no room below: shadows become grey
        field = field * 0.6 if smooth else np.where(field < 0, -0.46 * field, 0.8 * field)
    field = field[:, None]
    return own + np.maximum(field, 0) * (255 - own) + np.minimum(field, 0) * own


def _paint(field: Field, color: tuple[int, int, int], smooth: bool) -> np.ndarray:
    """Tint `color` by the field, and pull the tile's mean back to the colour."""
    levels = np.clip(field * 127.5 + 128, 0, 255).astype(np.uint8)
    share = np.bincount(levels.ravel(), minlength=256) / levels.size
    tints = _ramp(color, smooth)
    for pull in (0.7, 0.6):
        tints = np.clip(tints + pull * (color - share @ tints), 0, 255)
    drift = abs(share @ tints - color).max()
    tints = color + (tints - color) * min(1.0, _DRIFT / max(drift, 1e-6))
    return (tints + 0.5).astype(np.uint8)[levels]


def pattern(texture: str, color: tuple[int, int, int], rng: Rng, size: int = 128) -> np.ndarray:
    """A size x size RGB tile: the surface `texture` on an object of `color`."""
    return _paint(_FIELDS[texture](rng, size), color, texture in _SMOOTH)
