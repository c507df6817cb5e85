"""Draws the eight pet breeds of the micro world, side view, facing right: four dogs, four cats.

Invariant: the breeds differ in shape alone; eyes, noses and inner ears have one colour for all of
them, and the coat carries none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from .parts import Part, body, detail
from .shapes import curve, dots, line, oval, soft

EYE, WHITE, NOSE, PINK = (34, 28, 26), (250, 250, 250), (44, 34, 36), (226, 150, 150)
CLAW, COLLAR, COLLAR_LOW = (60, 48, 44), (214, 70, 60), (150, 40, 40)


@dataclass(frozen=True)
class Shape:
    """Lengths in object units, heights counted up from the floor.

    legs: height of the belly; length, depth: the torso's; head: (x, height, diameter) before neck;
    muzzle: (length, thickness); ears: kind and size; tail: kind; fluff: 0..1 extra coat.
    """

    species: str
    legs: float
    length: float
    depth: float
    head: tuple[float, float, float]
    muzzle: tuple[float, float]
    ears: tuple[str, float]
    tail: str
    leg_width: float = 0.085
    fluff: float = 0.0
    chest: float = 1.0


CLASSES: dict[str, Shape] = {
    "akora": Shape(
        "dog", 0.10, 0.74, 0.23, (0.36, 0.40, 0.22), (0.17, 0.105), ("floppy", 0.22), "thin", 0.09
    ),
    "barkel": Shape(
        "dog",
        0.17,
        0.52,
        0.33,
        (0.27, 0.46, 0.30),
        (0.07, 0.19),
        ("fold", 0.11),
        "stump",
        0.12,
        0.0,
        1.2,
    ),
    "dorvan": Shape(
        "dog",
        0.38,
        0.50,
        0.22,
        (0.34, 0.70, 0.17),
        (0.19, 0.085),
        ("back", 0.12),
        "whip",
        0.062,
        0.0,
        1.25,
    ),
    "hulder": Shape(
        "dog",
        0.22,
        0.46,
        0.31,
        (0.27, 0.56, 0.25),
        (0.12, 0.10),
        ("point", 0.15),
        "curl",
        0.085,
        1.0,
    ),
    "minka": Shape(
        "cat", 0.26, 0.46, 0.19, (0.27, 0.56, 0.22), (0.035, 0.10), ("huge", 0.25), "up", 0.06
    ),
    "nimbus": Shape(
        "cat",
        0.15,
        0.48,
        0.36,
        (0.27, 0.45, 0.31),
        (0.025, 0.15),
        ("tiny", 0.09),
        "bush",
        0.10,
        1.0,
    ),
    "sorrel": Shape(
        "cat", 0.09, 0.62, 0.24, (0.33, 0.35, 0.25), (0.03, 0.12), ("fold", 0.10), "up", 0.09
    ),
    "tibber": Shape(
        "cat",
        0.34,
        0.44,
        0.25,
        (0.26, 0.68, 0.24),
        (0.04, 0.12),
        ("tuft", 0.18),
        "stump",
        0.095,
        0.35,
    ),
}

SPECIES: dict[str, str] = {name: shape.species for name, shape in CLASSES.items()}

PHRASES: dict[str, tuple[str, ...]] = {
    "akora": ("floppy ears", "short legs", "a long body"),
    "barkel": ("small ears", "a flat face", "a short tail"),
    "dorvan": ("small ears", "long legs", "a long muzzle"),
    "hulder": ("pointed ears", "a curled tail", "a round body"),
    "minka": ("big ears", "a slim body", "a thin tail"),
    "nimbus": ("small ears", "a round body", "a bushy tail"),
    "sorrel": ("small ears", "short legs", "a thin tail"),
    "tibber": ("pointed ears", "long legs", "a short tail"),
}


def parts(name: str, rng: np.random.Generator, grounded: bool = True) -> list[Part]:
    """The parts of one animal, furthest first; `grounded` makes no difference to its pose."""
    shape, u = CLASSES[name], rng.uniform(-1, 1, 6)
    middle = shape.legs + shape.depth / 2
    out = _tail(shape, middle, float(u[0]))
    out += _legs(shape, (0.035, -0.02), 0.74, float(u[1]))
    out += _ear(shape, far=True, nod=float(u[3]))
    out += _torso(shape, middle)
    out += _legs(shape, (0.0, 0.0), 1.0, float(u[2]))
    out += _head(shape, float(u[3]))
    out += _ear(shape, far=False, nod=float(u[3]))
    matrix = skia.Matrix()
    matrix.setScale(1.04 + 0.03 * u[4], 1.04 + 0.03 * u[5])
    for part in out:
        part.path.transform(matrix)
    return out


def _torso(shape: Shape, middle: float) -> list[Part]:
    """Belly and chest as one smooth outline, a neck, and a mane for the fluffy ones."""
    a, b, low = -shape.length / 2, shape.length / 2, shape.legs
    top, deep = low + shape.depth, shape.depth * (shape.chest - 1)
    trunk = soft(
        (a, low + 0.02, 0.10),
        (a - 0.02, top, 0.13),
        (b - 0.06, top + 0.01, 0.16),
        (b + 0.03, middle, 0.12),
        (b - 0.03, low - deep, 0.13),
        (0, low + 0.02, 0.18),
    )
    x, h, size = shape.head
    neck = soft(
        (b - 0.19, middle, 0.06),
        (b - 0.20, top - 0.015, 0.06),
        (x - size * 0.42, h + size * 0.2, 0.05),
        (x + size * 0.22, h - size * 0.2, 0.05),
        (b + 0.02, middle - 0.02, 0.06),
    )
    out = [body(trunk, volume=0.8)]
    if shape.fluff > 0.5:
        out.append(body(_fluffy(0, middle, shape.length * 1.06, shape.depth * 1.1), volume=0.8))
        out.append(body(_fluffy(b - 0.03, middle + 0.06, 0.30, shape.depth * 0.98), 1.06, 0.7))
    out.append(body(neck, volume=0.12))
    if shape.species == "dog":
        t = 0.58 if shape.legs > 0.3 else 0.34
        back = (b - 0.20, top - 0.015), (x - size * 0.42, h + size * 0.2)
        front = (b + 0.02, middle - 0.02), (x + size * 0.22, h - size * 0.2)
        ends = [(p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t) for p, q in (back, front)]
        (ax, ah), (bx, bh) = ends
        out.append(
            detail(
                line(
                    (ax + (bx - ax) * 0.10, ah + (bh - ah) * 0.10),
                    (bx + (ax - bx) * 0.10, bh + (ah - bh) * 0.10),
                ),
                COLLAR,
                COLLAR_LOW,
                stroke=0.026,
            )
        )
    return out


def _fluffy(x: float, h: float, w: float, t: float) -> skia.Path:
    """An oval with a scalloped edge."""
    path, count = skia.Path(), 14
    angles = np.linspace(0, 2 * np.pi, count + 1)
    rim = [(x + w / 2 * np.cos(a), h + t / 2 * np.sin(a)) for a in angles]
    path.moveTo(rim[0][0], -rim[0][1])
    for k in range(count):
        m = (angles[k] + angles[k + 1]) / 2
        path.quadTo(
            x + w * 0.565 * np.cos(m), -(h + t * 0.565 * np.sin(m)), rim[k + 1][0], -rim[k + 1][1]
        )
    path.close()
    return path


def _legs(shape: Shape, shift: tuple[float, float], light: float, phase: float) -> list[Part]:
    """A front and a hind leg of one side; the far side is shifted and darker."""
    w, top = shape.leg_width, shape.legs + shape.depth * 0.45
    front, hind = shape.length / 2 - 0.075 + shift[0], -shape.length / 2 + 0.08 + shift[0]
    swing = 0.022 * phase * (1 if light == 1.0 else -1)
    both = soft(
        (front - w * 0.6, top, 0.03),
        (front + w * 0.6, top, 0.03),
        (front + w * 0.45 + swing, 0.05, 0.03),
        (front + w * 0.95 + swing, 0.03, 0.02),
        (front + w * 0.95 + swing, 0, 0.015),
        (front - w * 0.45 + swing, 0, 0.02),
    )
    knee = shape.legs * 0.45
    back = soft(
        (hind - w * 1.0, top, 0.06),
        (hind + w * 1.25, top, 0.06),
        (hind + w * 0.55, knee, 0.04),
        (hind + w * 0.35 - swing, 0.05, 0.03),
        (hind + w * 0.85 - swing, 0.03, 0.02),
        (hind + w * 0.85 - swing, 0, 0.015),
        (hind - w * 0.55 - swing, 0, 0.02),
        (hind - w * 0.65, knee, 0.05),
    )
    toes = line((front + w * 0.55 + swing, 0.002), (front + w * 0.55 + swing, 0.022))
    toes.addPath(line((hind + w * 0.45 - swing, 0.002), (hind + w * 0.45 - swing, 0.022)))
    out = [body(both, light, 0.25), body(back, light, 0.25)]
    return out + ([detail(toes, CLAW, stroke=0.010)] if light == 1.0 else [])


def _tail(shape: Shape, middle: float, wag: float) -> list[Part]:
    """From the rump: thin, whip, up, curl, bush or stump."""
    x, h = -shape.length / 2 + 0.03, shape.legs + shape.depth * 0.85
    lift = 0.05 * wag
    if shape.tail == "stump":
        return [body(oval(x - 0.04, h + 0.03, 0.12, 0.09, -30), 0.92, 0.5)]
    if shape.tail == "bush":
        return [body(_fluffy(x - 0.10, h + 0.12 + lift, 0.25, 0.46), 0.95, 0.7)]
    if shape.tail == "curl":
        ring = curve(
            (x, h - 0.02),
            (x - 0.16, h + 0.12),
            (x - 0.05, h + 0.32),
            (x + 0.10, h + 0.25),
            (x + 0.19, h + 0.20),
            (x + 0.13, h + 0.08),
            (x + 0.05, h + 0.13),
        )
        return [body(ring, 0.95, 0.5, stroke=0.105)]
    if shape.tail == "up":
        rise = curve(
            (x, h - 0.02),
            (x - 0.15, h),
            (x - 0.16, h + 0.20),
            (x - 0.11, h + 0.30 + lift),
            (x - 0.08, h + 0.37),
            (x - 0.14, h + 0.41),
            (x - 0.18, h + 0.37 + lift),
        )
        return [body(rise, 0.95, 0.4, stroke=0.055)]
    if shape.tail == "whip":
        drop = curve(
            (x, h - 0.02), (x - 0.12, h - 0.05), (x - 0.12, h - 0.28), (x - 0.20, h - 0.30 + lift)
        )
        return [body(drop, 0.95, 0.3, stroke=0.038)]
    sweep = curve((x, h - 0.02), (x - 0.08, h), (x - 0.14, h + 0.10), (x - 0.20, h + 0.17 + lift))
    return [body(sweep, 0.95, 0.3, stroke=0.052)]


def _head(shape: Shape, nod: float) -> list[Part]:
    """Skull, muzzle, eye, nose, mouth; whiskers for cats."""
    x, h, size = shape.head
    h += 0.012 * nod
    reach, thick = shape.muzzle
    tip = x + size / 2 + reach
    snout = soft(
        (x, h - size * 0.02, 0.03),
        (tip - 0.02, h - size * 0.08 + thick * 0.28, thick * 0.4),
        (tip, h - size * 0.16 - thick * 0.1, thick * 0.4),
        (tip - 0.03, h - size * 0.2 - thick * 0.5, thick * 0.4),
        (x, h - size * 0.45, 0.04),
    )
    out = []
    if shape.fluff > 0.3:
        out.append(body(_fluffy(x - 0.02, h - size * 0.12, size * 1.22, size * 1.0), 1.0, 0.7))
    out += [body(oval(x, h, size, size * 0.94), volume=0.7), body(snout, 1.06, 0.4)]
    eye = (x + size * 0.17, h + size * 0.10)
    out += [
        detail(dots([eye], size * 0.115), EYE),
        detail(dots([(eye[0] + size * 0.04, eye[1] + size * 0.04)], size * 0.045), WHITE),
        detail(oval(tip - 0.012, h - size * 0.12, 0.045, 0.036), NOSE),
        detail(
            curve(
                (tip - 0.015, h - size * 0.19),
                (tip - 0.03, h - size * 0.27),
                (tip - 0.06, h - size * 0.28),
                (tip - 0.09, h - size * 0.25),
            ),
            NOSE,
            stroke=0.010,
        ),
    ]
    if shape.species == "cat":
        hairs = line((tip - 0.03, h - size * 0.17), (tip + 0.08, h - size * 0.12))
        hairs.addPath(line((tip - 0.03, h - size * 0.2), (tip + 0.08, h - size * 0.24)))
        out.append(detail(hairs, (236, 236, 236), stroke=0.007))
    return out


def _ear(shape: Shape, far: bool, nod: float) -> list[Part]:
    """One ear: floppy, fold, back, point, huge, tiny or tuft."""
    kind, long = shape.ears
    x, h, size = shape.head
    h += 0.012 * nod
    light = 0.72 if far else 0.94
    if kind == "floppy":
        if far:
            return []
        return [
            body(
                soft(
                    (x - size * 0.32, h + size * 0.40, 0.05),
                    (x + size * 0.08, h + size * 0.36, 0.05),
                    (x + 0.01, h - long, 0.06),
                    (x - size * 0.55, h - long * 0.9, 0.07),
                ),
                0.8,
                0.5,
            )
        ]
    if kind in ("fold", "back"):
        at = x + (0.05 if far else -0.05)
        drop = 0.2 if kind == "fold" else -0.15
        return [
            body(
                soft(
                    (at - 0.04, h + size * 0.36, 0.02),
                    (at + 0.05, h + size * 0.42, 0.02),
                    (at + long * drop, h + size * 0.42 + long * 0.45, 0.03),
                    (at - long * 0.9, h + size * 0.30, 0.04),
                ),
                light * 0.88,
                0.3,
            )
        ]
    base, lean = long * (0.42 if kind != "huge" else 0.46), (-0.02 if not far else 0.05)
    at, foot = x + (size * 0.22 if far else -size * 0.22), h + size * 0.26
    tip = (at + lean, foot + long * 1.05)
    out = [body(soft((at - base, foot, 0.015), (*tip, 0.02), (at + base, foot, 0.015)), light, 0.2)]
    if not far and kind != "tiny":
        inner = soft(
            (at - base * 0.5, foot + 0.03, 0.01),
            (tip[0], tip[1] - long * 0.22, 0.01),
            (at + base * 0.5, foot + 0.03, 0.01),
        )
        out.append(detail(inner, PINK))
    if kind == "tuft":
        out.append(
            detail(
                line((tip[0], tip[1] - 0.05), (tip[0] - 0.012, tip[1] + 0.025)), CLAW, stroke=0.018
            )
        )
    return out
