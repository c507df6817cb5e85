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
    "akora": Shape("dog", .10, .74, .23, (.36, .40, .22), (.17, .105), ("floppy", .22), "thin",
                   .09),
    "barkel": Shape("dog", .17, .52, .33, (.27, .46, .30), (.07, .19), ("fold", .11), "stump",
                    .12, .0, 1.2),
    "dorvan": Shape("dog", .38, .50, .22, (.34, .70, .17), (.19, .085), ("back", .12), "whip",
                    .062, .0, 1.25),
    "hulder": Shape("dog", .22, .46, .31, (.27, .56, .25), (.12, .10), ("point", .15), "curl",
                    .085, 1.0),
    "minka": Shape("cat", .26, .46, .19, (.27, .56, .22), (.035, .10), ("huge", .25), "up", .06),
    "nimbus": Shape("cat", .15, .48, .36, (.27, .45, .31), (.025, .15), ("tiny", .09), "bush",
                    .10, 1.0),
    "sorrel": Shape("cat", .09, .62, .24, (.33, .35, .25), (.03, .12), ("fold", .10), "up", .09),
    "tibber": Shape("cat", .34, .44, .25, (.26, .68, .24), (.04, .12), ("tuft", .18), "stump",
                    .095, .35),
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
    out += _legs(shape, (.035, -.02), 0.74, float(u[1]))
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
    trunk = soft((a, low + .02, .10), (a - .02, top, .13), (b - .06, top + .01, .16),
                 (b + .03, middle, .12), (b - .03, low - deep, .13), (0, low + .02, .18))
    x, h, size = shape.head
    neck = soft((b - .19, middle, .06), (b - .20, top - .015, .06),
                (x - size * .42, h + size * .2, .05), (x + size * .22, h - size * .2, .05),
                (b + .02, middle - .02, .06))
    out = [body(trunk, volume=0.8)]
    if shape.fluff > .5:
        out.append(body(_fluffy(0, middle, shape.length * 1.06, shape.depth * 1.1), volume=0.8))
        out.append(body(_fluffy(b - .03, middle + .06, .30, shape.depth * .98), 1.06, 0.7))
    out.append(body(neck, volume=0.12))
    if shape.species == "dog":
        t = .58 if shape.legs > .3 else .34
        back = (b - .20, top - .015), (x - size * .42, h + size * .2)
        front = (b + .02, middle - .02), (x + size * .22, h - size * .2)
        ends = [(p[0] + (q[0] - p[0]) * t, p[1] + (q[1] - p[1]) * t) for p, q in (back, front)]
        (ax, ah), (bx, bh) = ends
        out.append(detail(line((ax + (bx - ax) * .10, ah + (bh - ah) * .10),
                               (bx + (ax - bx) * .10, bh + (ah - bh) * .10)),
                          COLLAR, COLLAR_LOW, stroke=0.026))
    return out


def _fluffy(x: float, h: float, w: float, t: float) -> skia.Path:
    """An oval with a scalloped edge."""
    path, count = skia.Path(), 14
    angles = np.linspace(0, 2 * np.pi, count + 1)
    rim = [(x + w / 2 * np.cos(a), h + t / 2 * np.sin(a)) for a in angles]
    path.moveTo(rim[0][0], -rim[0][1])
    for k in range(count):
        m = (angles[k] + angles[k + 1]) / 2
        path.quadTo(x + w * .565 * np.cos(m), -(h + t * .565 * np.sin(m)), rim[k + 1][0],
                    -rim[k + 1][1])
    path.close()
    return path


def _legs(shape: Shape, shift: tuple[float, float], light: float, phase: float) -> list[Part]:
    """A front and a hind leg of one side; the far side is shifted and darker."""
    w, top = shape.leg_width, shape.legs + shape.depth * .45
    front, hind = shape.length / 2 - .075 + shift[0], -shape.length / 2 + .08 + shift[0]
    swing = .022 * phase * (1 if light == 1.0 else -1)
    both = soft((front - w * .6, top, .03), (front + w * .6, top, .03),
                (front + w * .45 + swing, .05, .03), (front + w * .95 + swing, .03, .02),
                (front + w * .95 + swing, 0, .015), (front - w * .45 + swing, 0, .02))
    knee = shape.legs * .45
    back = soft((hind - w * 1.0, top, .06), (hind + w * 1.25, top, .06),
                (hind + w * .55, knee, .04), (hind + w * .35 - swing, .05, .03),
                (hind + w * .85 - swing, .03, .02), (hind + w * .85 - swing, 0, .015),
                (hind - w * .55 - swing, 0, .02), (hind - w * .65, knee, .05))
    toes = line((front + w * .55 + swing, .002), (front + w * .55 + swing, .022))
    toes.addPath(line((hind + w * .45 - swing, .002), (hind + w * .45 - swing, .022)))
    out = [body(both, light, 0.25), body(back, light, 0.25)]
    return out + ([detail(toes, CLAW, stroke=0.010)] if light == 1.0 else [])


def _tail(shape: Shape, middle: float, wag: float) -> list[Part]:
    """From the rump: thin, whip, up, curl, bush or stump."""
    x, h = -shape.length / 2 + .03, shape.legs + shape.depth * .85
    lift = .05 * wag
    if shape.tail == "stump":
        return [body(oval(x - .04, h + .03, .12, .09, -30), 0.92, 0.5)]
    if shape.tail == "bush":
        return [body(_fluffy(x - .10, h + .12 + lift, .25, .46), 0.95, 0.7)]
    if shape.tail == "curl":
        ring = curve((x, h - .02), (x - .16, h + .12), (x - .05, h + .32), (x + .10, h + .25),
                     (x + .19, h + .20), (x + .13, h + .08), (x + .05, h + .13))
        return [body(ring, 0.95, 0.5, stroke=0.105)]
    if shape.tail == "up":
        rise = curve((x, h - .02), (x - .15, h), (x - .16, h + .20), (x - .11, h + .30 + lift),
                     (x - .08, h + .37), (x - .14, h + .41), (x - .18, h + .37 + lift))
        return [body(rise, 0.95, 0.4, stroke=0.055)]
    if shape.tail == "whip":
        drop = curve((x, h - .02), (x - .12, h - .05), (x - .12, h - .28),
                     (x - .20, h - .30 + lift))
        return [body(drop, 0.95, 0.3, stroke=0.038)]
    sweep = curve((x, h - .02), (x - .08, h), (x - .14, h + .10), (x - .20, h + .17 + lift))
    return [body(sweep, 0.95, 0.3, stroke=0.052)]


def _head(shape: Shape, nod: float) -> list[Part]:
    """Skull, muzzle, eye, nose, mouth; whiskers for cats."""
    x, h, size = shape.head
    h += .012 * nod
    reach, thick = shape.muzzle
    tip = x + size / 2 + reach
    snout = soft((x, h - size * .02, .03), (tip - .02, h - size * .08 + thick * .28, thick * .4),
                 (tip, h - size * .16 - thick * .1, thick * .4),
                 (tip - .03, h - size * .2 - thick * .5, thick * .4), (x, h - size * .45, .04))
    out = []
    if shape.fluff > .3:
        out.append(body(_fluffy(x - .02, h - size * .12, size * 1.22, size * 1.0), 1.0, 0.7))
    out += [body(oval(x, h, size, size * .94), volume=0.7), body(snout, 1.06, 0.4)]
    eye = (x + size * .17, h + size * .10)
    out += [detail(dots([eye], size * .115), EYE),
            detail(dots([(eye[0] + size * .04, eye[1] + size * .04)], size * .045), WHITE),
            detail(oval(tip - .012, h - size * .12, .045, .036), NOSE),
            detail(curve((tip - .015, h - size * .19), (tip - .03, h - size * .27),
                         (tip - .06, h - size * .28), (tip - .09, h - size * .25)), NOSE,
                   stroke=0.010)]
    if shape.species == "cat":
        hairs = line((tip - .03, h - size * .17), (tip + .08, h - size * .12))
        hairs.addPath(line((tip - .03, h - size * .2), (tip + .08, h - size * .24)))
        out.append(detail(hairs, (236, 236, 236), stroke=0.007))
    return out


def _ear(shape: Shape, far: bool, nod: float) -> list[Part]:
    """One ear: floppy, fold, back, point, huge, tiny or tuft."""
    kind, long = shape.ears
    x, h, size = shape.head
    h += .012 * nod
    light = 0.72 if far else 0.94
    if kind == "floppy":
        if far:
            return []
        return [body(soft((x - size * .32, h + size * .40, .05),
                          (x + size * .08, h + size * .36, .05), (x + .01, h - long, .06),
                          (x - size * .55, h - long * .9, .07)), .8, 0.5)]
    if kind in ("fold", "back"):
        at = x + (.05 if far else -.05)
        drop = .2 if kind == "fold" else -.15
        return [body(soft((at - .04, h + size * .36, .02), (at + .05, h + size * .42, .02),
                          (at + long * drop, h + size * .42 + long * .45, .03),
                          (at - long * .9, h + size * .30, .04)), light * .88, 0.3)]
    base, lean = long * (.42 if kind != "huge" else .46), (-.02 if not far else .05)
    at, foot = x + (size * .22 if far else -size * .22), h + size * .26
    tip = (at + lean, foot + long * 1.05)
    out = [body(soft((at - base, foot, .015), (*tip, .02), (at + base, foot, .015)), light, 0.2)]
    if not far and kind != "tiny":
        inner = soft((at - base * .5, foot + .03, .01), (tip[0], tip[1] - long * .22, .01),
                     (at + base * .5, foot + .03, .01))
        out.append(detail(inner, PINK))
    if kind == "tuft":
        out.append(detail(line((tip[0], tip[1] - .05), (tip[0] - .012, tip[1] + .025)), CLAW,
                          stroke=0.018))
    return out
