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
        ((-.50, .30, .02), (-.44, .345, .06), (.36, .345, .10), (.51, .24, .07), (.42, .155, .10),
         (-.26, .155, .12)),
        ((-.24, .11, .015), (-.17, .11, .02), (.12, .20, .03), (-.06, .215, .03)),
        ((-.55, .56, .02), (-.47, .56, .03), (-.28, .33, .03), (-.48, .31, .02)),
        ((-.55, .315, .02), (-.49, .315, .02), (-.33, .275, .03), (-.42, .265, .02)),
        ((.40, .268, .01), (.385, .305, .02), (.42, .305, .03), (.46, .268, .01)),
        (-.34, .32, .275, 11), ((.06, .115, .17, .085),), (), (-.04, .34),
        far_wing=((-.12, .345, .01), (-.05, .345, .01), (.14, .25, .02), (.02, .25, .02))),
    "boreas": Shape(  # jumbo: fat double-deck hull with a hump, four jets
        ((-.52, .33, .02), (-.44, .39, .06), (.06, .39, .05), (.16, .455, .07), (.36, .45, .08),
         (.52, .27, .10), (.42, .135, .10), (-.26, .135, .14)),
        ((-.28, .09, .015), (-.20, .09, .02), (.16, .20, .04), (-.08, .22, .03)),
        ((-.56, .62, .02), (-.47, .62, .03), (-.27, .37, .03), (-.48, .34, .02)),
        ((-.56, .35, .02), (-.49, .35, .02), (-.32, .30, .03), (-.42, .29, .02)),
        ((.345, .385, .01), (.325, .425, .02), (.36, .425, .03), (.41, .385, .01)),
        (-.36, .40, .255, 13), ((-.08, .085, .13, .075), (.12, .115, .14, .085)), (),
        (-.14, -.04, .34), extra="deck"),
    "cirrox": Shape(  # business jet: rear engine on the hull, T-tail, pointed nose
        ((-.46, .33, .03), (-.38, .35, .08), (.22, .35, .10), (.54, .215, .05), (.40, .165, .10),
         (-.20, .165, .10)),
        ((-.22, .12, .015), (-.15, .12, .02), (.10, .19, .03), (-.02, .205, .03)),
        ((-.52, .585, .02), (-.42, .585, .02), (-.22, .33, .04), (-.44, .32, .02)),
        ((-.60, .60, .02), (-.44, .61, .02), (-.38, .575, .01), (-.57, .57, .02)),
        ((.26, .272, .01), (.25, .318, .02), (.285, .318, .03), (.36, .272, .01)),
        (-.06, .18, .28, 5), ((-.25, .315, .22, .115),), (), (-.06, .34)),
    "dragan": Shape(  # high-wing light aircraft: propeller, strut, fixed gear
        ((-.52, .335, .02), (-.44, .35, .03), (-.10, .415, .06), (.16, .42, .06), (.22, .335, .05),
         (.40, .31, .05), (.42, .205, .05), (.10, .15, .08), (-.10, .16, .08)),
        ((-.15, .395, .015), (-.13, .46, .03), (.22, .46, .03), (.24, .395, .015)),
        ((-.56, .53, .03), (-.44, .53, .04), (-.30, .355, .03), (-.52, .325, .02)),
        ((-.60, .335, .02), (-.58, .365, .02), (-.38, .36, .02), (-.38, .325, .02)),
        ((.10, .325, .01), (.09, .405, .02), (.145, .405, .02), (.205, .325, .01)),
        (-.07, .05, .36, 2), (), ((.445, .255, .19),), (-.02, .30), True, extra="strut"),
    "elytra": Shape(  # biplane: two wings, struts, open cockpit, round engine
        ((-.52, .27, .02), (-.40, .31, .06), (.10, .345, .08), (.36, .345, .06), (.40, .27, .06),
         (.36, .165, .06), (.02, .155, .10), (-.38, .215, .10)),
        ((-.10, .155, .02), (-.10, .20, .02), (.26, .20, .02), (.26, .155, .02)),
        ((-.57, .45, .05), (-.45, .47, .05), (-.34, .29, .03), (-.54, .26, .03)),
        ((-.60, .265, .02), (-.59, .295, .02), (-.40, .29, .02), (-.40, .255, .02)),
        (), (0, 0, 0, 0), (), ((.43, .26, .20),), (.16,), True,
        ((-.04, .495, .02), (-.05, .55, .03), (.33, .55, .03), (.34, .50, .02)), "biplane"),
    "falcor": Shape(  # delta fighter: needle nose, canopy, large fin
        ((-.50, .20, .02), (-.50, .325, .03), (-.20, .345, .10), (.16, .345, .08),
         (.62, .225, .02), (.34, .175, .10), (-.20, .165, .10)),
        ((-.47, .175, .01), (-.46, .20, .01), (.10, .225, .03), (.16, .205, .02), (-.30, .13, .02)),
        ((-.56, .60, .02), (-.46, .60, .02), (-.12, .335, .03), (-.48, .315, .02)),
        (), ((.08, .325, .01), (.12, .41, .05), (.22, .40, .07), (.36, .285, .01)),
        (0, 0, 0, 0), (), (), (-.20, .30), extra="jetpipe"),
    "gryphon": Shape(  # cargo propliner: high wing, fat hull, upswept tail
        ((-.54, .42, .02), (-.46, .44, .04), (-.12, .46, .06), (.32, .46, .09), (.47, .31, .09),
         (.42, .12, .09), (-.16, .12, .10)),
        ((-.12, .455, .015), (-.10, .515, .03), (.20, .515, .03), (.22, .46, .015)),
        ((-.58, .70, .02), (-.46, .70, .03), (-.28, .445, .05), (-.52, .41, .02)),
        ((-.62, .43, .02), (-.60, .46, .02), (-.40, .455, .02), (-.40, .42, .02)),
        ((.305, .345, .01), (.29, .40, .02), (.335, .395, .03), (.39, .345, .01)),
        (-.06, .26, .30, 4), ((.10, .43, .26, .11),), ((.245, .43, .20),), (-.08, .06, .32),
        extra="door"),
    "helion": Shape(  # seaplane: deep boat hull on floats, engine above the wing
        ((-.50, .42, .02), (-.42, .44, .04), (.02, .47, .08), (.24, .45, .08), (.42, .33, .06),
         (.38, .235, .06), (.0, .225, .10), (-.28, .32, .10)),
        ((-.16, .445, .02), (-.14, .515, .03), (.18, .515, .03), (.20, .445, .02)),
        ((-.55, .66, .03), (-.44, .66, .04), (-.30, .44, .04), (-.50, .41, .02)),
        ((-.58, .60, .02), (-.57, .635, .02), (-.36, .625, .02), (-.37, .59, .02)),
        ((.20, .365, .01), (.19, .425, .02), (.25, .42, .03), (.33, .365, .01)),
        (-.12, .12, .385, 4), (), ((.455, .32, .19),), (), True, extra="floats"),
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
    belly = soft((-.8, 0, 0), (-.8, low + .045, 0), (.8, low + .045, 0), (.8, 0, 0))
    out = [body(skia.Op(belly, hull, skia.PathOp.kIntersect_PathOp), 0.82, 0.0)]
    if shape.cockpit:
        glass = soft(*shape.cockpit)
        out += [detail(glass, DARK, stroke=0.012), detail(glass, GLASS, GLASS_LOW)]
    first, last, height, count = shape.windows
    if count:
        big = 0.026 if count <= 5 else 0.015
        out.append(detail(dots([(float(x), height) for x in np.linspace(first, last, count)], big),
                          PANE))
    return out


def _engine(x: float, h: float, length: float, thick: float) -> list[Part]:
    """A jet nacelle: painted cowling, dark intake, steel exhaust."""
    a, b, half = x - length / 2, x + length / 2, thick / 2
    cone = soft((a - .03, h - half * .45, .01), (a - .03, h + half * .45, .01),
                (a + .04, h + half * .7, .01), (a + .04, h - half * .7, .01))
    cowl = soft((a, h - half * .7, .03), (a, h + half * .7, .03), (b, h + half, .03),
                (b, h - half, .03))
    return [detail(cone, STEEL, STEEL_LOW), body(cowl, 1.0, 0.9),
            detail(oval(b - .004, h, .026, thick * .84), DARK)]


def _propeller(x: float, h: float, half: float, turn: float) -> list[Part]:
    """Two blades edge on, and a spinner."""
    spread = half * (0.92 + 0.08 * turn)
    return [detail(oval(x + .004, h, .030, 2 * spread), BLADE, STEEL_LOW),
            detail(soft((x - .03, h - .045, .02), (x - .03, h + .045, .02), (x + .06, h, .03)),
                   STEEL, STEEL_LOW)]


def _gear(shape: Shape) -> list[Part]:
    """Legs and wheels; fixed gear on light aircraft has bigger wheels."""
    radius = 0.062 if shape.fixed else 0.042
    out: list[Part] = []
    for x in shape.wheels:
        out += [detail(line((x, radius), (x - .01, .22)), STEEL_LOW, stroke=0.018),
                detail(dots([(x, radius)], radius), RUBBER),
                detail(dots([(x, radius)], radius * .45), STEEL)]
    if shape.fixed and shape.wheels:
        out.append(detail(dots([(-.44, .20)], .028), RUBBER))
        out.append(detail(line((-.44, .20), (-.43, .27)), STEEL_LOW, stroke=0.012))
    return out


def _extras(shape: Shape, jitter: float) -> list[Part]:
    """What only one model has."""
    if shape.extra == "deck":
        row = [(float(x), .345) for x in np.linspace(.14, .32, 5)]
        return [detail(dots(row, .015), PANE)]
    if shape.extra == "strut":
        return [detail(line((.02, .19), (.10, .43)), STEEL, stroke=0.018),
                body(line((-.14, .20), (-.40, .31)), 0.7, 0.0, stroke=0.006)]
    if shape.extra == "biplane":
        struts = line((-.02, .18), (.03, .52))
        struts.addPath(line((.24, .18), (.29, .52)))
        struts.addPath(line((.12, .34), (.15, .51)))
        pilot = [detail(dots([(-.10, .365)], .042), (120, 84, 60), (84, 58, 44)),
                 detail(soft((-.05, .335, .01), (-.05, .385, .01), (-.02, .335, .01)), GLASS),
                 detail(oval(-.10, .335, .13, .035), DARK)]
        return [*pilot, body(soft(*shape.far_wing), 1.0, 0.7),
                detail(struts, STEEL_LOW, stroke=0.015)]
    if shape.extra == "jetpipe":
        pipe = soft((-.56, .225, .01), (-.56, .30, .01), (-.49, .315, .01), (-.49, .21, .01))
        intake = soft((.02, .185, .02), (.02, .245, .02), (.10, .235, .01), (.10, .19, .01))
        return [detail(pipe, STEEL, DARK), detail(intake, DARK)]
    if shape.extra == "door":
        return [body(line((-.28, .22), (-.16, .42), (-.02, .42)), 0.6, 0.0, stroke=0.007)]
    if shape.extra == "floats":
        legs = line((-.10, .10), (-.06, .26))
        legs.addPath(line((.16, .10), (.10, .26)))
        boat = soft((-.32, .11, .03), (.34, .12, .03), (.42, .085, .03), (.26, 0, .06),
                    (-.06, 0, .05))
        keel = curve((-.26, .07), (-.1, .045), (.2, .045), (.36, .085))
        return [detail(legs, STEEL_LOW, stroke=0.02), body(boat, 0.95, 0.8),
                body(keel, 0.75, 0.0, stroke=0.007),
                detail(line((.0, .24), (.06, .49)), STEEL, stroke=0.016)]
    return []
