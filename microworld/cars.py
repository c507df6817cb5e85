"""Draws the eight car models of the micro world, side view, facing right.

Invariant: the models differ in shape alone; every colour here (glass, rubber, alloy, lamps) is the
same for all of them, and the painted panels carry none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from .parts import Part, body, detail

Corner = tuple[float, float, float]  # x, height above the ground, rounding distance

RUBBER, ARCH, TRIM = (30, 31, 35), (20, 21, 25), (52, 55, 62)
ALLOY, ALLOY_LOW, HUB = (226, 229, 234), (150, 155, 164), (92, 96, 104)
GLASS, GLASS_LOW, SHEEN = (104, 140, 164), (44, 62, 80), (164, 194, 210)
HEAD, HEAD_LOW, TAIL, TAIL_LOW = (255, 250, 226), (244, 204, 120), (236, 60, 48), (168, 22, 26)


@dataclass(frozen=True)
class Shape:
    """The shape numbers of one model; lengths in object units, heights counted up from the road.

    outline: the painted silhouette, clockwise from the rear end of the sill to its front end.
    glass:   the side windows as one polygon; pillars: where painted pillars cross it.
    doors:   x of the vertical door gaps, and handles: x of the handles.
    head, tail: centre (x, height) and size of the lamps.
    extra:   what else the model has: "", "rails", "spoiler", "open", "bed", "panel", "spare".
    """

    outline: tuple[Corner, ...]
    glass: tuple[Corner, ...]
    belt: float
    sill: float
    radius: float
    axles: tuple[float, float]
    doors: tuple[float, ...]
    handles: tuple[float, ...]
    head: tuple[float, float, float, float]
    tail: tuple[float, float, float, float]
    pillars: tuple[float, ...] = ()
    extra: str = ""


CLASSES: dict[str, Shape] = {
    "alvera": Shape(  # hatchback: short, tall, cut off behind the rear wheel
        (
            (-0.40, 0.065, 0.03),
            (-0.43, 0.21, 0.07),
            (-0.345, 0.425, 0.07),
            (0.03, 0.44, 0.17),
            (0.235, 0.265, 0.07),
            (0.40, 0.235, 0.10),
            (0.425, 0.065, 0.05),
        ),
        ((-0.345, 0.265, 0.03), (-0.30, 0.375, 0.04), (0.02, 0.39, 0.12), (0.175, 0.265, 0.03)),
        0.25,
        0.065,
        0.082,
        (-0.265, 0.265),
        (-0.09, 0.19),
        (-0.065,),
        (0.385, 0.19, 0.075, 0.05),
        (-0.40, 0.25, 0.055, 0.09),
        (-0.105,),
    ),
    "brenta": Shape(  # saloon: three boxes, long distinct boot
        (
            (-0.50, 0.065, 0.03),
            (-0.515, 0.25, 0.045),
            (-0.315, 0.262, 0.05),
            (-0.205, 0.385, 0.09),
            (0.04, 0.39, 0.12),
            (0.185, 0.255, 0.07),
            (0.47, 0.215, 0.10),
            (0.51, 0.065, 0.05),
        ),
        ((-0.265, 0.262, 0.02), (-0.185, 0.35, 0.05), (0.03, 0.355, 0.09), (0.13, 0.262, 0.02)),
        0.235,
        0.065,
        0.084,
        (-0.315, 0.32),
        (-0.25, -0.06, 0.14),
        (-0.22, -0.03),
        (0.465, 0.18, 0.08, 0.04),
        (-0.49, 0.205, 0.06, 0.05),
        (-0.065,),
    ),
    "corvo": Shape(  # coupe: low fastback wedge
        (
            (-0.48, 0.065, 0.03),
            (-0.515, 0.23, 0.025),
            (-0.37, 0.243, 0.10),
            (-0.11, 0.325, 0.15),
            (0.02, 0.31, 0.11),
            (0.19, 0.225, 0.10),
            (0.43, 0.195, 0.12),
            (0.515, 0.105, 0.04),
            (0.52, 0.065, 0.02),
        ),
        ((-0.31, 0.228, 0.03), (-0.11, 0.293, 0.12), (0.0, 0.286, 0.09), (0.135, 0.222, 0.03)),
        0.205,
        0.065,
        0.09,
        (-0.31, 0.315),
        (-0.14, 0.15),
        (-0.11,),
        (0.445, 0.155, 0.11, 0.028),
        (-0.49, 0.195, 0.06, 0.035),
        (-0.13,),
        "spoiler",
    ),
    "dalma": Shape(  # estate: long flat roof to the very tail
        (
            (-0.53, 0.065, 0.03),
            (-0.55, 0.22, 0.06),
            (-0.485, 0.37, 0.05),
            (0.06, 0.385, 0.14),
            (0.215, 0.255, 0.07),
            (0.49, 0.215, 0.10),
            (0.53, 0.065, 0.05),
        ),
        ((-0.485, 0.258, 0.02), (-0.445, 0.335, 0.03), (0.05, 0.345, 0.10), (0.155, 0.258, 0.02)),
        0.235,
        0.065,
        0.084,
        (-0.335, 0.34),
        (-0.235, -0.045, 0.165),
        (-0.205, -0.015),
        (0.485, 0.18, 0.08, 0.04),
        (-0.525, 0.235, 0.045, 0.09),
        (-0.235, -0.045),
        "rails",
    ),
    "estrel": Shape(  # convertible: no roof, raked windscreen, two seats
        (
            (-0.44, 0.065, 0.03),
            (-0.475, 0.225, 0.08),
            (-0.27, 0.25, 0.06),
            (-0.21, 0.225, 0.02),
            (0.12, 0.222, 0.03),
            (0.19, 0.24, 0.06),
            (0.445, 0.20, 0.11),
            (0.475, 0.065, 0.05),
        ),
        ((0.035, 0.222, 0.01), (0.055, 0.345, 0.015), (0.075, 0.345, 0.015), (0.155, 0.222, 0.01)),
        0.215,
        0.065,
        0.09,
        (-0.285, 0.295),
        (-0.13, 0.13),
        (-0.10,),
        (0.43, 0.17, 0.06, 0.05),
        (-0.445, 0.19, 0.06, 0.045),
        (),
        "open",
    ),
    "fontan": Shape(  # pickup: cab in front of a long open bed
        (
            (-0.54, 0.115, 0.02),
            (-0.545, 0.265, 0.015),
            (-0.115, 0.265, 0.006),
            (-0.10, 0.43, 0.045),
            (0.10, 0.435, 0.09),
            (0.225, 0.285, 0.05),
            (0.505, 0.27, 0.06),
            (0.535, 0.115, 0.05),
        ),
        ((-0.065, 0.29, 0.015), (-0.06, 0.39, 0.03), (0.085, 0.395, 0.06), (0.17, 0.29, 0.02)),
        0.26,
        0.105,
        0.108,
        (-0.335, 0.34),
        (-0.095, 0.18),
        (-0.065,),
        (0.50, 0.215, 0.05, 0.055),
        (-0.535, 0.215, 0.03, 0.075),
        (),
        "bed",
    ),
    "girona": Shape(  # van: one tall box with a stub nose
        (
            (-0.49, 0.07, 0.03),
            (-0.50, 0.575, 0.06),
            (0.17, 0.59, 0.15),
            (0.375, 0.315, 0.08),
            (0.475, 0.265, 0.07),
            (0.495, 0.07, 0.05),
        ),
        ((0.115, 0.335, 0.015), (0.115, 0.495, 0.02), (0.165, 0.505, 0.07), (0.305, 0.335, 0.03)),
        0.30,
        0.07,
        0.08,
        (-0.30, 0.315),
        (0.335,),
        (0.05, 0.125),
        (0.46, 0.215, 0.045, 0.06),
        (-0.49, 0.28, 0.03, 0.13),
        (),
        "panel",
    ),
    "halden": Shape(  # off-roader: upright, big wheels, spare wheel, roof rack
        (
            (-0.375, 0.145, 0.02),
            (-0.385, 0.50, 0.045),
            (0.085, 0.51, 0.05),
            (0.145, 0.345, 0.03),
            (0.40, 0.33, 0.05),
            (0.415, 0.145, 0.04),
        ),
        ((-0.345, 0.345, 0.02), (-0.345, 0.455, 0.025), (0.065, 0.462, 0.025), (0.10, 0.345, 0.02)),
        0.32,
        0.135,
        0.128,
        (-0.235, 0.275),
        (-0.07, 0.115),
        (-0.045,),
        (0.39, 0.27, 0.045, 0.055),
        (-0.375, 0.27, 0.03, 0.08),
        (-0.215, -0.065),
        "spare",
    ),
}

PHRASES: dict[str, tuple[str, ...]] = {
    "alvera": ("a short body", "a hatch", "small wheels"),
    "brenta": ("a low roof", "a long body", "a boot"),
    "corvo": ("a low roof", "a long body", "a hatch"),
    "dalma": ("a flat roof", "a long body", "a hatch"),
    "estrel": ("an open top", "a short body", "a boot"),
    "fontan": ("an open bed", "a long body", "big wheels"),
    "girona": ("a tall roof", "a flat roof", "small wheels"),
    "halden": ("a tall roof", "a spare wheel", "big wheels"),
}


@dataclass(frozen=True)
class Jitter:
    """One car's small departures from its model: lengths, heights, roof and wheels."""

    length: float
    height: float
    upper: float
    lean: float
    wheel: float
    belt: float
    spokes: float

    def at(self, x: float, h: float) -> tuple[float, float]:
        """Object coordinates of a model point; what lies above the belt stretches on its own."""
        over = max(0.0, h - self.belt)
        low = min(h, self.belt) * self.height
        return (x + self.lean * over) * self.length, -(low + over * self.upper)


def parts(name: str, rng: np.random.Generator, grounded: bool = True) -> list[Part]:
    """The parts of one car, furthest first. A car stands on its wheels, `grounded` or not."""
    shape = CLASSES[name]
    u = rng.uniform(-1.0, 1.0, 6)
    jit = Jitter(
        1 + 0.03 * u[0],
        1 + 0.035 * u[1],
        1 + 0.05 * u[2],
        0.08 * u[3],
        1 + 0.035 * u[4],
        shape.belt,
        float(u[5]),
    )
    out = _behind(shape, jit) + _shell(shape, jit) + _windows(shape, jit)
    out += _fittings(shape, jit) + _extras(shape, jit)
    for x in shape.axles:
        out += _wheel(jit.at(x, 0)[0], shape.radius * jit.wheel, jit.spokes)
    return out


def _closed(corners: tuple[Corner, ...], jit: Jitter) -> skia.Path:
    """A closed polygon with soft corners: each is cut off at its rounding distance."""
    pts = [jit.at(x, h) for x, h, _ in corners]
    path, n = skia.Path(), len(pts)
    for i, (x, y) in enumerate(pts):
        ends = []
        for px, py in (pts[i - 1], pts[(i + 1) % n]):
            gap = ((px - x) ** 2 + (py - y) ** 2) ** 0.5
            t = min(0.5, corners[i][2] / gap)
            ends.append((x + (px - x) * t, y + (py - y) * t))
        (path.lineTo if i else path.moveTo)(*ends[0])
        path.conicTo(x, y, *ends[1], 0.8)
    path.close()
    return path


def _line(jit: Jitter, *points: tuple[float, float]) -> skia.Path:
    """An open polyline through model points."""
    path = skia.Path()
    path.moveTo(*jit.at(*points[0]))
    for point in points[1:]:
        path.lineTo(*jit.at(*point))
    return path


def _box(jit: Jitter, x: float, h: float, w: float, t: float, r: float) -> skia.Path:
    """A soft box of width w and height t around a model point."""
    a, b, low, top = x - w / 2, x + w / 2, h - t / 2, h + t / 2
    return _closed(((a, low, r), (a, top, r), (b, top, r), (b, low, r)), jit)


def _inside(path: skia.Path, mask: skia.Path) -> skia.Path:
    """The part of a path that lies on another."""
    return skia.Op(path, mask, skia.PathOp.kIntersect_PathOp)


def _behind(shape: Shape, jit: Jitter) -> list[Part]:
    """The floor pan between the wheels, and what stands behind the near panels."""
    a, b = shape.axles
    out = [detail(_box(jit, (a + b) / 2, shape.sill, b - a + 0.1, 0.05, 0.02), ARCH)]
    if shape.extra == "open":
        for x in (-0.16, -0.035):
            out.append(
                detail(
                    _closed(
                        (
                            (x, 0.18, 0),
                            (x - 0.045, 0.30, 0.02),
                            (x - 0.015, 0.33, 0.02),
                            (x + 0.03, 0.315, 0.02),
                            (x + 0.055, 0.18, 0),
                        ),
                        jit,
                    ),
                    HUB,
                    TRIM,
                )
            )
        out.append(detail(_line(jit, (0.085, 0.20), (0.05, 0.265)), TRIM, stroke=0.014))
        out.append(
            detail(
                _closed(
                    (
                        (-0.33, 0.22, 0.02),
                        (-0.30, 0.285, 0.04),
                        (-0.215, 0.285, 0.03),
                        (-0.19, 0.22, 0.02),
                    ),
                    jit,
                ),
                TRIM,
                ARCH,
            )
        )
    return out


def _shell(shape: Shape, jit: Jitter) -> list[Part]:
    """The painted panels: silhouette, bright shoulder, shaded lower flank, door gaps."""
    shell = _closed(shape.outline, jit)
    left, right = shape.outline[0][0] - 0.1, shape.outline[-1][0] + 0.1
    mid = shape.sill + 0.42 * (shape.belt - shape.sill)
    flank = _closed(
        (
            (left, 0, 0),
            (left, mid + 0.012, 0),
            (0, mid - 0.008, 0.3),
            (right, mid + 0.004, 0),
            (right, 0, 0),
        ),
        jit,
    )
    shoulder = _closed(
        (
            (left, shape.belt - 0.032, 0),
            (left, shape.belt - 0.008, 0),
            (right, shape.belt - 0.024, 0),
            (right, shape.belt - 0.036, 0),
        ),
        jit,
    )
    out = [
        body(shell, volume=0.7),
        body(_inside(shoulder, shell), 1.16, 0.0),
        body(_inside(flank, shell), 0.8, 0.35),
    ]
    gaps = skia.Path()
    for x in shape.doors:
        gaps.addPath(_line(jit, (x, shape.belt), (x - 0.004, shape.sill + 0.03)))
    out.append(body(gaps, 0.55, 0.0, stroke=0.007))
    skirt = _box(jit, (left + right) / 2, shape.sill, 2.0, 0.044, 0)
    out.append(detail(_inside(skirt, shell), TRIM, ARCH))
    for (x, h, w, t), color, low in (
        (shape.head, HEAD, HEAD_LOW),
        (shape.tail, TAIL, TAIL_LOW),
    ):
        out.append(detail(_inside(_box(jit, x, h, w, t, 0.45 * min(w, t)), shell), color, low))
    return out


def _windows(shape: Shape, jit: Jitter) -> list[Part]:
    """The side glass with its dark seal, a slanting reflection and the painted pillars."""
    glass = _closed(shape.glass, jit)
    xs, hs = [c[0] for c in shape.glass], [c[1] for c in shape.glass]
    low, top, span = min(hs) - 0.01, max(hs) + 0.01, max(xs) - min(xs)
    tilt = 0.6 * (top - low)
    bands = skia.Path()
    for at, wide in ((0.50, 0.13), (0.70, 0.04)):
        x = min(xs) + at * span
        bands.addPath(
            _closed(
                (
                    (x, low, 0),
                    (x + tilt, top, 0),
                    (x + tilt + wide * span, top, 0),
                    (x + wide * span, low, 0),
                ),
                jit,
            )
        )
    out = [
        detail(glass, ARCH, stroke=0.012),
        detail(glass, GLASS, GLASS_LOW),
        detail(_inside(bands, glass), SHEEN, GLASS),
    ]
    for x in shape.pillars:
        post = _line(jit, (x, min(hs) - 0.004), (x + 0.012, max(hs) + 0.006))
        out.append(body(post, 0.92, 0.0, stroke=0.02))
    return out


def _fittings(shape: Shape, jit: Jitter) -> list[Part]:
    """Wheel arches, handles, mirror and exhaust."""
    arches = skia.Path()
    for axle in shape.axles:
        x, sill = jit.at(axle, shape.sill)
        r = shape.radius * jit.wheel
        big = r * 1.2
        arches.moveTo(x - big, sill)
        arches.arcTo(skia.Rect(x - big, -r - big, x + big, -r + big), 180, 180, False)
        arches.lineTo(x + big, sill)
        arches.close()
    knobs = skia.Path()
    for x in shape.handles:
        knobs.addPath(_line(jit, (x, shape.belt - 0.045), (x + 0.035, shape.belt - 0.045)))
    front = max(shape.glass)[0]
    tail = shape.outline[0][0]
    return [
        detail(
            _line(jit, (tail + 0.04, shape.sill - 0.006), (tail + 0.012, shape.sill - 0.006)),
            HUB,
            stroke=0.016,
        ),
        detail(arches, ARCH),
        detail(knobs, ALLOY, stroke=0.012),
        body(_box(jit, front - 0.025, shape.belt + 0.035, 0.045, 0.036, 0.014), 0.85, 0.8),
    ]


def _wheel(x: float, r: float, turn: float) -> list[Part]:
    """A tyre that touches the road, an alloy rim with five dark windows, a hub."""
    tyre, rim, hub, holes = skia.Path(), skia.Path(), skia.Path(), skia.Path()
    tyre.addCircle(x, -r, r)
    rim.addCircle(x, -r, 0.66 * r)
    hub.addCircle(x, -r, 0.13 * r)
    for k in range(5):
        a = 1.2566 * (k + turn)
        for spread, reach in ((-0.36, 0.54), (0.0, 0.62), (0.36, 0.54), (0.0, 0.22)):
            to = holes.moveTo if spread == -0.36 else holes.lineTo
            to(x + reach * r * np.cos(a + spread), -r + reach * r * np.sin(a + spread))
        holes.close()
    return [
        detail(tyre, TRIM, RUBBER),
        detail(rim, ALLOY, ALLOY_LOW),
        detail(holes, TRIM),
        detail(hub, HUB),
    ]


def _extras(shape: Shape, jit: Jitter) -> list[Part]:
    """What only some models carry: rails, spoiler, windscreen frame, bed, spare wheel and rack."""
    if shape.extra == "rails":
        return [
            detail(
                _line(jit, (-0.43, 0.368), (-0.41, 0.386), (0.0, 0.395), (0.03, 0.38)),
                TRIM,
                stroke=0.011,
            )
        ]
    if shape.extra == "spoiler":
        return [
            body(
                _closed(
                    (
                        (-0.53, 0.256, 0.01),
                        (-0.545, 0.284, 0.008),
                        (-0.42, 0.268, 0.02),
                        (-0.42, 0.25, 0.01),
                    ),
                    jit,
                ),
                0.9,
                0.4,
            ),
            detail(_line(jit, (-0.452, 0.225), (-0.457, 0.258)), ARCH, stroke=0.014),
        ]
    if shape.extra == "open":
        return [body(_line(jit, (0.165, 0.225), (0.065, 0.352)), 1.0, 0.0, stroke=0.02)]
    if shape.extra == "bed":
        return [
            detail(_line(jit, (-0.535, 0.268), (-0.135, 0.268)), ARCH, stroke=0.018),
            detail(_line(jit, (-0.14, 0.275), (-0.185, 0.39), (-0.11, 0.405)), TRIM, stroke=0.016),
        ]
    if shape.extra == "panel":
        frames = _box(jit, -0.05, 0.315, 0.26, 0.43, 0.025)
        frames.addPath(_line(jit, (0.085, 0.11), (0.085, 0.53)))
        return [body(frames, 0.6, 0.0, stroke=0.007)]
    if shape.extra == "spare":
        rack = _line(jit, (-0.36, 0.56), (0.07, 0.565))
        for x in (-0.33, -0.14, 0.04):
            rack.addPath(_line(jit, (x, 0.51), (x, 0.56)))
        return [
            detail(_box(jit, -0.432, 0.335, 0.085, 0.25, 0.035), TRIM, RUBBER),
            detail(_box(jit, -0.474, 0.335, 0.014, 0.12, 0.007), ALLOY, ALLOY_LOW),
            detail(rack, TRIM, stroke=0.016),
        ]
    return []
