"""Draws the eight aircraft models of the micro world, side view, facing right.

Invariant: the models differ in shape alone; glass, tyres, propellers and metal have one colour for
all of them, and the painted skin carries none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from .parts import Part, body, detail
from .shapes import curve, dots, line, oval, soft

Corner = tuple[float, float, float]
GLASS, GLASS_LOW, PANE = (120, 160, 190), (40, 60, 84), (58, 84, 110)
RUBBER, STEEL, STEEL_LOW, DARK = (34, 35, 40), (196, 200, 206), (120, 124, 132), (44, 46, 54)
BLADE = (222, 224, 228)
_REACH = 0.53  # half the length of the longest model


@dataclass(frozen=True)
class Shape:
    """Outlines clockwise from the tail, as (x, height, rounding); empty where a model has none.

    windows: (first x, last x, height, count); engines: (x, height, length, thickness) jets;
    props: (x, height, half length); wheels: x of each; extra: "floats", "struts", "hump" and such.
    """

    hull: tuple[Corner, ...]
    wing: tuple[Corner, ...]
    fin: tuple[Corner, ...]
    tail: tuple[Corner, ...]
    cockpit: tuple[Corner, ...]
    windows: tuple[float, float, float, int] = (0, 0, 0, 0)
    engines: tuple[tuple[float, float, float, float], ...] = ()
    props: tuple[tuple[float, float, float], ...] = ()
    wheels: tuple[float, ...] = ()
    fixed: bool = False
    far_wing: tuple[Corner, ...] = ()
    extra: str = ""


CLASSES: dict[str, Shape] = {
    "aquila": Shape(  # twin-jet airliner: low swept wing, one engine under it
        (
            (-0.50, 0.30, 0.02),
            (-0.44, 0.345, 0.06),
            (0.36, 0.345, 0.10),
            (0.51, 0.24, 0.07),
            (0.42, 0.155, 0.10),
            (-0.26, 0.155, 0.12),
        ),
        ((-0.24, 0.11, 0.015), (-0.17, 0.11, 0.02), (0.12, 0.20, 0.03), (-0.06, 0.215, 0.03)),
        ((-0.55, 0.56, 0.02), (-0.47, 0.56, 0.03), (-0.28, 0.33, 0.03), (-0.48, 0.31, 0.02)),
        ((-0.55, 0.315, 0.02), (-0.49, 0.315, 0.02), (-0.33, 0.275, 0.03), (-0.42, 0.265, 0.02)),
        ((0.40, 0.268, 0.01), (0.385, 0.305, 0.02), (0.42, 0.305, 0.03), (0.46, 0.268, 0.01)),
        (-0.34, 0.32, 0.275, 11),
        ((0.06, 0.115, 0.17, 0.085),),
        (),
        (-0.04, 0.34),
        far_wing=(
            (-0.12, 0.345, 0.01),
            (-0.05, 0.345, 0.01),
            (0.14, 0.25, 0.02),
            (0.02, 0.25, 0.02),
        ),
    ),
    "boreas": Shape(  # jumbo: fat double-deck hull with a hump, four jets
        (
            (-0.52, 0.33, 0.02),
            (-0.44, 0.39, 0.06),
            (0.06, 0.39, 0.05),
            (0.16, 0.455, 0.07),
            (0.36, 0.45, 0.08),
            (0.52, 0.27, 0.10),
            (0.42, 0.135, 0.10),
            (-0.26, 0.135, 0.14),
        ),
        ((-0.28, 0.09, 0.015), (-0.20, 0.09, 0.02), (0.16, 0.20, 0.04), (-0.08, 0.22, 0.03)),
        ((-0.56, 0.62, 0.02), (-0.47, 0.62, 0.03), (-0.27, 0.37, 0.03), (-0.48, 0.34, 0.02)),
        ((-0.56, 0.35, 0.02), (-0.49, 0.35, 0.02), (-0.32, 0.30, 0.03), (-0.42, 0.29, 0.02)),
        ((0.345, 0.385, 0.01), (0.325, 0.425, 0.02), (0.36, 0.425, 0.03), (0.41, 0.385, 0.01)),
        (-0.36, 0.40, 0.255, 13),
        ((-0.08, 0.085, 0.13, 0.075), (0.12, 0.115, 0.14, 0.085)),
        (),
        (-0.14, -0.04, 0.34),
        extra="deck",
    ),
    "cirrox": Shape(  # business jet: rear engine on the hull, T-tail, pointed nose
        (
            (-0.46, 0.33, 0.03),
            (-0.38, 0.35, 0.08),
            (0.22, 0.35, 0.10),
            (0.54, 0.215, 0.05),
            (0.40, 0.165, 0.10),
            (-0.20, 0.165, 0.10),
        ),
        ((-0.22, 0.12, 0.015), (-0.15, 0.12, 0.02), (0.10, 0.19, 0.03), (-0.02, 0.205, 0.03)),
        ((-0.52, 0.585, 0.02), (-0.42, 0.585, 0.02), (-0.22, 0.33, 0.04), (-0.44, 0.32, 0.02)),
        ((-0.60, 0.60, 0.02), (-0.44, 0.61, 0.02), (-0.38, 0.575, 0.01), (-0.57, 0.57, 0.02)),
        ((0.26, 0.272, 0.01), (0.25, 0.318, 0.02), (0.285, 0.318, 0.03), (0.36, 0.272, 0.01)),
        (-0.06, 0.18, 0.28, 5),
        ((-0.25, 0.315, 0.22, 0.115),),
        (),
        (-0.06, 0.34),
    ),
    "dragan": Shape(  # high-wing light aircraft: propeller, strut, fixed gear
        (
            (-0.52, 0.335, 0.02),
            (-0.44, 0.35, 0.03),
            (-0.10, 0.415, 0.06),
            (0.16, 0.42, 0.06),
            (0.22, 0.335, 0.05),
            (0.40, 0.31, 0.05),
            (0.42, 0.205, 0.05),
            (0.10, 0.15, 0.08),
            (-0.10, 0.16, 0.08),
        ),
        ((-0.15, 0.395, 0.015), (-0.13, 0.46, 0.03), (0.22, 0.46, 0.03), (0.24, 0.395, 0.015)),
        ((-0.56, 0.53, 0.03), (-0.44, 0.53, 0.04), (-0.30, 0.355, 0.03), (-0.52, 0.325, 0.02)),
        ((-0.60, 0.335, 0.02), (-0.58, 0.365, 0.02), (-0.38, 0.36, 0.02), (-0.38, 0.325, 0.02)),
        ((0.10, 0.325, 0.01), (0.09, 0.405, 0.02), (0.145, 0.405, 0.02), (0.205, 0.325, 0.01)),
        (-0.07, 0.05, 0.36, 2),
        (),
        ((0.445, 0.255, 0.19),),
        (-0.02, 0.30),
        True,
        extra="strut",
    ),
    "elytra": Shape(  # biplane: two wings, struts, open cockpit, round engine
        (
            (-0.52, 0.27, 0.02),
            (-0.40, 0.31, 0.06),
            (0.10, 0.345, 0.08),
            (0.36, 0.345, 0.06),
            (0.40, 0.27, 0.06),
            (0.36, 0.165, 0.06),
            (0.02, 0.155, 0.10),
            (-0.38, 0.215, 0.10),
        ),
        ((-0.10, 0.155, 0.02), (-0.10, 0.20, 0.02), (0.26, 0.20, 0.02), (0.26, 0.155, 0.02)),
        ((-0.57, 0.45, 0.05), (-0.45, 0.47, 0.05), (-0.34, 0.29, 0.03), (-0.54, 0.26, 0.03)),
        ((-0.60, 0.265, 0.02), (-0.59, 0.295, 0.02), (-0.40, 0.29, 0.02), (-0.40, 0.255, 0.02)),
        (),
        (0, 0, 0, 0),
        (),
        ((0.43, 0.26, 0.20),),
        (0.16,),
        True,
        ((-0.04, 0.495, 0.02), (-0.05, 0.55, 0.03), (0.33, 0.55, 0.03), (0.34, 0.50, 0.02)),
        "biplane",
    ),
    "falcor": Shape(  # delta fighter: needle nose, canopy, large fin
        (
            (-0.50, 0.20, 0.02),
            (-0.50, 0.325, 0.03),
            (-0.20, 0.345, 0.10),
            (0.16, 0.345, 0.08),
            (0.62, 0.225, 0.02),
            (0.34, 0.175, 0.10),
            (-0.20, 0.165, 0.10),
        ),
        (
            (-0.47, 0.175, 0.01),
            (-0.46, 0.20, 0.01),
            (0.10, 0.225, 0.03),
            (0.16, 0.205, 0.02),
            (-0.30, 0.13, 0.02),
        ),
        ((-0.56, 0.60, 0.02), (-0.46, 0.60, 0.02), (-0.12, 0.335, 0.03), (-0.48, 0.315, 0.02)),
        (),
        ((0.08, 0.325, 0.01), (0.12, 0.41, 0.05), (0.22, 0.40, 0.07), (0.36, 0.285, 0.01)),
        (0, 0, 0, 0),
        (),
        (),
        (-0.20, 0.30),
        extra="jetpipe",
    ),
    "gryphon": Shape(  # cargo propliner: high wing, fat hull, upswept tail
        (
            (-0.54, 0.42, 0.02),
            (-0.46, 0.44, 0.04),
            (-0.12, 0.46, 0.06),
            (0.32, 0.46, 0.09),
            (0.47, 0.31, 0.09),
            (0.42, 0.12, 0.09),
            (-0.16, 0.12, 0.10),
        ),
        ((-0.12, 0.455, 0.015), (-0.10, 0.515, 0.03), (0.20, 0.515, 0.03), (0.22, 0.46, 0.015)),
        ((-0.58, 0.70, 0.02), (-0.46, 0.70, 0.03), (-0.28, 0.445, 0.05), (-0.52, 0.41, 0.02)),
        ((-0.62, 0.43, 0.02), (-0.60, 0.46, 0.02), (-0.40, 0.455, 0.02), (-0.40, 0.42, 0.02)),
        ((0.305, 0.345, 0.01), (0.29, 0.40, 0.02), (0.335, 0.395, 0.03), (0.39, 0.345, 0.01)),
        (-0.06, 0.26, 0.30, 4),
        ((0.10, 0.43, 0.26, 0.11),),
        ((0.245, 0.43, 0.20),),
        (-0.08, 0.06, 0.32),
        extra="door",
    ),
    "helion": Shape(  # seaplane: deep boat hull on floats, engine above the wing
        (
            (-0.50, 0.42, 0.02),
            (-0.42, 0.44, 0.04),
            (0.02, 0.47, 0.08),
            (0.24, 0.45, 0.08),
            (0.42, 0.33, 0.06),
            (0.38, 0.235, 0.06),
            (0.0, 0.225, 0.10),
            (-0.28, 0.32, 0.10),
        ),
        ((-0.16, 0.445, 0.02), (-0.14, 0.515, 0.03), (0.18, 0.515, 0.03), (0.20, 0.445, 0.02)),
        ((-0.55, 0.66, 0.03), (-0.44, 0.66, 0.04), (-0.30, 0.44, 0.04), (-0.50, 0.41, 0.02)),
        ((-0.58, 0.60, 0.02), (-0.57, 0.635, 0.02), (-0.36, 0.625, 0.02), (-0.37, 0.59, 0.02)),
        ((0.20, 0.365, 0.01), (0.19, 0.425, 0.02), (0.25, 0.42, 0.03), (0.33, 0.365, 0.01)),
        (-0.12, 0.12, 0.385, 4),
        (),
        ((0.455, 0.32, 0.19),),
        (),
        True,
        extra="floats",
    ),
}

PHRASES: dict[str, tuple[str, ...]] = {
    "aquila": ("low wings", "a jet engine", "a slim body"),
    "boreas": ("low wings", "four jet engines", "a fat body"),
    "cirrox": ("low wings", "a rear engine", "a high tail"),
    "dragan": ("high wings", "a propeller", "a slim body"),
    "elytra": ("double wings", "a propeller", "a low tail"),
    "falcor": ("a delta wing", "a rear engine", "a pointed nose"),
    "gryphon": ("high wings", "a propeller", "a fat body"),
    "helion": ("high wings", "floats", "a high tail"),
}


def parts(name: str, rng: np.random.Generator, grounded: bool = True) -> list[Part]:
    """The parts of one aircraft, furthest first; retractable gear is up when not `grounded`."""
    shape, u = CLASSES[name], rng.uniform(-1, 1, 4)
    out = _gear(shape) if grounded or shape.fixed else []
    if shape.far_wing and shape.extra != "biplane":
        out.append(body(soft(*shape.far_wing), 0.72))
    if shape.fin:
        out.append(body(soft(*shape.fin), 0.97, 0.35))
    hull = soft(*shape.hull)
    out += [body(hull, volume=0.85), *_trim(shape, hull), *_extras(shape, float(u[3]))]
    if shape.tail:
        out.append(body(soft(*shape.tail), 0.9, 0.4))
    for engine in shape.engines:
        out += _engine(*engine)
    if shape.extra != "floats" or shape.wing:
        out.append(body(soft(*shape.wing), 0.88, 0.5))
    out += [part for prop in shape.props for part in _propeller(*prop, float(u[2]))]
    left = min(part.path.getBounds().left() for part in out)
    right = max(part.path.getBounds().right() for part in out)
    fit = min(1.0, 2 * _REACH / (right - left))  # no model touches the picture's border
    matrix = skia.Matrix()
    matrix.setTranslate(-(left + right) / 2, 0)
    matrix.postScale(fit * (1 + 0.03 * u[0]), fit * (1 + 0.04 * u[1]))
    for part in out:
        part.path.transform(matrix)
    return out


def _trim(shape: Shape, hull: skia.Path) -> list[Part]:
    """Belly shade, cockpit glass, passenger windows."""
    low = min(h for _, h, _ in shape.hull)
    belly = soft((-0.8, 0, 0), (-0.8, low + 0.045, 0), (0.8, low + 0.045, 0), (0.8, 0, 0))
    out = [body(skia.Op(belly, hull, skia.PathOp.kIntersect_PathOp), 0.82, 0.0)]
    if shape.cockpit:
        glass = soft(*shape.cockpit)
        out += [detail(glass, DARK, stroke=0.012), detail(glass, GLASS, GLASS_LOW)]
    first, last, height, count = shape.windows
    if count:
        big = 0.026 if count <= 5 else 0.015
        out.append(
            detail(dots([(float(x), height) for x in np.linspace(first, last, count)], big), PANE)
        )
    return out


def _engine(x: float, h: float, length: float, thick: float) -> list[Part]:
    """A jet nacelle: painted cowling, dark intake, steel exhaust."""
    a, b, half = x - length / 2, x + length / 2, thick / 2
    cone = soft(
        (a - 0.03, h - half * 0.45, 0.01),
        (a - 0.03, h + half * 0.45, 0.01),
        (a + 0.04, h + half * 0.7, 0.01),
        (a + 0.04, h - half * 0.7, 0.01),
    )
    cowl = soft(
        (a, h - half * 0.7, 0.03),
        (a, h + half * 0.7, 0.03),
        (b, h + half, 0.03),
        (b, h - half, 0.03),
    )
    return [
        detail(cone, STEEL, STEEL_LOW),
        body(cowl, 1.0, 0.9),
        detail(oval(b - 0.004, h, 0.026, thick * 0.84), DARK),
    ]


def _propeller(x: float, h: float, half: float, turn: float) -> list[Part]:
    """Two blades edge on, and a spinner."""
    spread = half * (0.92 + 0.08 * turn)
    return [
        detail(oval(x + 0.004, h, 0.030, 2 * spread), BLADE, STEEL_LOW),
        detail(
            soft((x - 0.03, h - 0.045, 0.02), (x - 0.03, h + 0.045, 0.02), (x + 0.06, h, 0.03)),
            STEEL,
            STEEL_LOW,
        ),
    ]


def _gear(shape: Shape) -> list[Part]:
    """Legs and wheels; fixed gear on light aircraft has bigger wheels."""
    radius = 0.062 if shape.fixed else 0.042
    out: list[Part] = []
    for x in shape.wheels:
        out += [
            detail(line((x, radius), (x - 0.01, 0.22)), STEEL_LOW, stroke=0.018),
            detail(dots([(x, radius)], radius), RUBBER),
            detail(dots([(x, radius)], radius * 0.45), STEEL),
        ]
    if shape.fixed and shape.wheels:
        out.append(detail(dots([(-0.44, 0.20)], 0.028), RUBBER))
        out.append(detail(line((-0.44, 0.20), (-0.43, 0.27)), STEEL_LOW, stroke=0.012))
    return out


def _extras(shape: Shape, jitter: float) -> list[Part]:
    """What only one model has."""
    if shape.extra == "deck":
        row = [(float(x), 0.345) for x in np.linspace(0.14, 0.32, 5)]
        return [detail(dots(row, 0.015), PANE)]
    if shape.extra == "strut":
        return [
            detail(line((0.02, 0.19), (0.10, 0.43)), STEEL, stroke=0.018),
            body(line((-0.14, 0.20), (-0.40, 0.31)), 0.7, 0.0, stroke=0.006),
        ]
    if shape.extra == "biplane":
        struts = line((-0.02, 0.18), (0.03, 0.52))
        struts.addPath(line((0.24, 0.18), (0.29, 0.52)))
        struts.addPath(line((0.12, 0.34), (0.15, 0.51)))
        pilot = [
            detail(dots([(-0.10, 0.365)], 0.042), (120, 84, 60), (84, 58, 44)),
            detail(soft((-0.05, 0.335, 0.01), (-0.05, 0.385, 0.01), (-0.02, 0.335, 0.01)), GLASS),
            detail(oval(-0.10, 0.335, 0.13, 0.035), DARK),
        ]
        return [
            *pilot,
            body(soft(*shape.far_wing), 1.0, 0.7),
            detail(struts, STEEL_LOW, stroke=0.015),
        ]
    if shape.extra == "jetpipe":
        pipe = soft(
            (-0.56, 0.225, 0.01), (-0.56, 0.30, 0.01), (-0.49, 0.315, 0.01), (-0.49, 0.21, 0.01)
        )
        intake = soft(
            (0.02, 0.185, 0.02), (0.02, 0.245, 0.02), (0.10, 0.235, 0.01), (0.10, 0.19, 0.01)
        )
        return [detail(pipe, STEEL, DARK), detail(intake, DARK)]
    if shape.extra == "door":
        return [body(line((-0.28, 0.22), (-0.16, 0.42), (-0.02, 0.42)), 0.6, 0.0, stroke=0.007)]
    if shape.extra == "floats":
        legs = line((-0.10, 0.10), (-0.06, 0.26))
        legs.addPath(line((0.16, 0.10), (0.10, 0.26)))
        boat = soft(
            (-0.32, 0.11, 0.03),
            (0.34, 0.12, 0.03),
            (0.42, 0.085, 0.03),
            (0.26, 0, 0.06),
            (-0.06, 0, 0.05),
        )
        keel = curve((-0.26, 0.07), (-0.1, 0.045), (0.2, 0.045), (0.36, 0.085))
        return [
            detail(legs, STEEL_LOW, stroke=0.02),
            body(boat, 0.95, 0.8),
            body(keel, 0.75, 0.0, stroke=0.007),
            detail(line((0.0, 0.24), (0.06, 0.49)), STEEL, stroke=0.016),
        ]
    return []
