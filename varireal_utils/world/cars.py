"""Draws the eight car models of the micro world, side view, facing right.

Invariant: the models differ in shape alone; every colour here (glass, rubber, alloy, lamps) is the
same for all of them, and the painted panels carry none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import skia

from varireal_utils.world.parts import Part, body, detail

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
        ((-.40, .065, .03), (-.43, .21, .07), (-.345, .425, .07), (.03, .44, .17),
         (.235, .265, .07), (.40, .235, .10), (.425, .065, .05)),
        ((-.345, .265, .03), (-.30, .375, .04), (.02, .39, .12), (.175, .265, .03)),
        .25, .065, .082, (-.265, .265), (-.09, .19), (-.065,),
        (.385, .19, .075, .05), (-.40, .25, .055, .09), (-.105,)),
    "brenta": Shape(  # saloon: three boxes, long distinct boot
        ((-.50, .065, .03), (-.515, .25, .045), (-.315, .262, .05), (-.205, .385, .09),
         (.04, .39, .12), (.185, .255, .07), (.47, .215, .10), (.51, .065, .05)),
        ((-.265, .262, .02), (-.185, .35, .05), (.03, .355, .09), (.13, .262, .02)),
        .235, .065, .084, (-.315, .32), (-.25, -.06, .14), (-.22, -.03),
        (.465, .18, .08, .04), (-.49, .205, .06, .05), (-.065,)),
    "corvo": Shape(  # coupe: low fastback wedge
        ((-.48, .065, .03), (-.515, .23, .025), (-.37, .243, .10), (-.11, .325, .15),
         (.02, .31, .11), (.19, .225, .10), (.43, .195, .12), (.515, .105, .04), (.52, .065, .02)),
        ((-.31, .228, .03), (-.11, .293, .12), (.0, .286, .09), (.135, .222, .03)),
        .205, .065, .09, (-.31, .315), (-.14, .15), (-.11,),
        (.445, .155, .11, .028), (-.49, .195, .06, .035), (-.13,), "spoiler"),
    "dalma": Shape(  # estate: long flat roof to the very tail
        ((-.53, .065, .03), (-.55, .22, .06), (-.485, .37, .05), (.06, .385, .14),
         (.215, .255, .07), (.49, .215, .10), (.53, .065, .05)),
        ((-.485, .258, .02), (-.445, .335, .03), (.05, .345, .10), (.155, .258, .02)),
        .235, .065, .084, (-.335, .34), (-.235, -.045, .165), (-.205, -.015),
        (.485, .18, .08, .04), (-.525, .235, .045, .09), (-.235, -.045), "rails"),
    "estrel": Shape(  # convertible: no roof, raked windscreen, two seats
        ((-.44, .065, .03), (-.475, .225, .08), (-.27, .25, .06), (-.21, .225, .02),
         (.12, .222, .03), (.19, .24, .06), (.445, .20, .11), (.475, .065, .05)),
        ((.035, .222, .01), (.055, .345, .015), (.075, .345, .015), (.155, .222, .01)),
        .215, .065, .09, (-.285, .295), (-.13, .13), (-.10,),
        (.43, .17, .06, .05), (-.445, .19, .06, .045), (), "open"),
    "fontan": Shape(  # pickup: cab in front of a long open bed
        ((-.54, .115, .02), (-.545, .265, .015), (-.115, .265, .006), (-.10, .43, .045),
         (.10, .435, .09), (.225, .285, .05), (.505, .27, .06), (.535, .115, .05)),
        ((-.065, .29, .015), (-.06, .39, .03), (.085, .395, .06), (.17, .29, .02)),
        .26, .105, .108, (-.335, .34), (-.095, .18), (-.065,),
        (.50, .215, .05, .055), (-.535, .215, .03, .075), (), "bed"),
    "girona": Shape(  # van: one tall box with a stub nose
        ((-.49, .07, .03), (-.50, .575, .06), (.17, .59, .15), (.375, .315, .08),
         (.475, .265, .07), (.495, .07, .05)),
        ((.115, .335, .015), (.115, .495, .02), (.165, .505, .07), (.305, .335, .03)),
        .30, .07, .08, (-.30, .315), (.335,), (.05, .125),
        (.46, .215, .045, .06), (-.49, .28, .03, .13), (), "panel"),
    "halden": Shape(  # off-roader: upright, big wheels, spare wheel, roof rack
        ((-.375, .145, .02), (-.385, .50, .045), (.085, .51, .05), (.145, .345, .03),
         (.40, .33, .05), (.415, .145, .04)),
        ((-.345, .345, .02), (-.345, .455, .025), (.065, .462, .025), (.10, .345, .02)),
        .32, .135, .128, (-.235, .275), (-.07, .115), (-.045,),
        (.39, .27, .045, .055), (-.375, .27, .03, .08), (-.215, -.065), "spare"),
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
    jit = Jitter(1 + .03 * u[0], 1 + .035 * u[1], 1 + .05 * u[2], .08 * u[3], 1 + .035 * u[4],
                 shape.belt, float(u[5]))
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
            gap = ((px - x) ** 2 + (py - y) ** 2) ** .5
            t = min(.5, corners[i][2] / gap)
            ends.append((x + (px - x) * t, y + (py - y) * t))
        (path.lineTo if i else path.moveTo)(*ends[0])
        path.conicTo(x, y, *ends[1], .8)
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
    out = [detail(_box(jit, (a + b) / 2, shape.sill, b - a + .1, .05, .02), ARCH)]
    if shape.extra == "open":
        for x in (-.16, -.035):
            out.append(detail(_closed(((x, .18, 0), (x - .045, .30, .02), (x - .015, .33, .02),
                                       (x + .03, .315, .02), (x + .055, .18, 0)), jit),
                              HUB, TRIM))
        out.append(detail(_line(jit, (.085, .20), (.05, .265)), TRIM, stroke=.014))
        out.append(detail(_closed(((-.33, .22, .02), (-.30, .285, .04), (-.215, .285, .03),
                                   (-.19, .22, .02)), jit), TRIM, ARCH))
    return out


def _shell(shape: Shape, jit: Jitter) -> list[Part]:
    """The painted panels: silhouette, bright shoulder, shaded lower flank, door gaps."""
    shell = _closed(shape.outline, jit)
    left, right = shape.outline[0][0] - .1, shape.outline[-1][0] + .1
    mid = shape.sill + .42 * (shape.belt - shape.sill)
    flank = _closed(((left, 0, 0), (left, mid + .012, 0), (0, mid - .008, .3),
                     (right, mid + .004, 0), (right, 0, 0)), jit)
    shoulder = _closed(((left, shape.belt - .032, 0), (left, shape.belt - .008, 0),
                        (right, shape.belt - .024, 0), (right, shape.belt - .036, 0)), jit)
    out = [body(shell, volume=.7), body(_inside(shoulder, shell), 1.16, 0.0),
           body(_inside(flank, shell), .8, .35)]
    gaps = skia.Path()
    for x in shape.doors:
        gaps.addPath(_line(jit, (x, shape.belt), (x - .004, shape.sill + .03)))
    out.append(body(gaps, .55, 0.0, stroke=.007))
    skirt = _box(jit, (left + right) / 2, shape.sill, 2.0, .044, 0)
    out.append(detail(_inside(skirt, shell), TRIM, ARCH))
    for x, h, w, t, *ink in ((*shape.head, HEAD, HEAD_LOW), (*shape.tail, TAIL, TAIL_LOW)):
        out.append(detail(_inside(_box(jit, x, h, w, t, .45 * min(w, t)), shell), *ink))
    return out


def _windows(shape: Shape, jit: Jitter) -> list[Part]:
    """The side glass with its dark seal, a slanting reflection and the painted pillars."""
    glass = _closed(shape.glass, jit)
    xs, hs = [c[0] for c in shape.glass], [c[1] for c in shape.glass]
    low, top, span = min(hs) - .01, max(hs) + .01, max(xs) - min(xs)
    tilt = .6 * (top - low)
    bands = skia.Path()
    for at, wide in ((.50, .13), (.70, .04)):
        x = min(xs) + at * span
        bands.addPath(_closed(((x, low, 0), (x + tilt, top, 0), (x + tilt + wide * span, top, 0),
                               (x + wide * span, low, 0)), jit))
    out = [detail(glass, ARCH, stroke=.012), detail(glass, GLASS, GLASS_LOW),
           detail(_inside(bands, glass), SHEEN, GLASS)]
    for x in shape.pillars:
        post = _line(jit, (x, min(hs) - .004), (x + .012, max(hs) + .006))
        out.append(body(post, .92, 0.0, stroke=.02))
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
        knobs.addPath(_line(jit, (x, shape.belt - .045), (x + .035, shape.belt - .045)))
    front = max(shape.glass)[0]
    tail = shape.outline[0][0]
    return [detail(_line(jit, (tail + .04, shape.sill - .006), (tail + .012, shape.sill - .006)),
                   HUB, stroke=.016),
            detail(arches, ARCH), detail(knobs, ALLOY, stroke=.012),
            body(_box(jit, front - .025, shape.belt + .035, .045, .036, .014), .85, .8)]


def _wheel(x: float, r: float, turn: float) -> list[Part]:
    """A tyre that touches the road, an alloy rim with five dark windows, a hub."""
    tyre, rim, hub, holes = skia.Path(), skia.Path(), skia.Path(), skia.Path()
    tyre.addCircle(x, -r, r)
    rim.addCircle(x, -r, .66 * r)
    hub.addCircle(x, -r, .13 * r)
    for k in range(5):
        a = 1.2566 * (k + turn)
        for spread, reach in ((-.36, .54), (0.0, .62), (.36, .54), (0.0, .22)):
            to = holes.moveTo if spread == -.36 else holes.lineTo
            to(x + reach * r * np.cos(a + spread), -r + reach * r * np.sin(a + spread))
        holes.close()
    return [detail(tyre, TRIM, RUBBER), detail(rim, ALLOY, ALLOY_LOW), detail(holes, TRIM),
            detail(hub, HUB)]


def _extras(shape: Shape, jit: Jitter) -> list[Part]:
    """What only some models carry: rails, spoiler, windscreen frame, bed, spare wheel and rack."""
    if shape.extra == "rails":
        return [detail(_line(jit, (-.43, .368), (-.41, .386), (.0, .395), (.03, .38)), TRIM,
                       stroke=.011)]
    if shape.extra == "spoiler":
        return [body(_closed(((-.53, .256, .01), (-.545, .284, .008), (-.42, .268, .02),
                              (-.42, .25, .01)), jit), .9, .4),
                detail(_line(jit, (-.452, .225), (-.457, .258)), ARCH, stroke=.014)]
    if shape.extra == "open":
        return [body(_line(jit, (.165, .225), (.065, .352)), 1.0, 0.0, stroke=.02)]
    if shape.extra == "bed":
        return [detail(_line(jit, (-.535, .268), (-.135, .268)), ARCH, stroke=.018),
                detail(_line(jit, (-.14, .275), (-.185, .39), (-.11, .405)), TRIM, stroke=.016)]
    if shape.extra == "panel":
        frames = _box(jit, -.05, .315, .26, .43, .025)
        frames.addPath(_line(jit, (.085, .11), (.085, .53)))
        return [body(frames, .6, 0.0, stroke=.007)]
    if shape.extra == "spare":
        rack = _line(jit, (-.36, .56), (.07, .565))
        for x in (-.33, -.14, .04):
            rack.addPath(_line(jit, (x, .51), (x, .56)))
        return [detail(_box(jit, -.432, .335, .085, .25, .035), TRIM, RUBBER),
                detail(_box(jit, -.474, .335, .014, .12, .007), ALLOY, ALLOY_LOW),
                detail(rack, TRIM, stroke=.016)]
    return []
