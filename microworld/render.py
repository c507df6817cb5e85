"""Draws the micro world: one object of a family in a scene, with its exact masks.

symbols   image  (128, 128, 3) uint8 RGB      what a camera would see
          mask   (128, 128)    uint8 0 | 255  the object: its coverage is at least one half
          paint  (128, 128)    uint8 0 | 255  its paintable surface, without wheels, windows, eyes

Invariant (tests/unit/test_world.py): a picture is a function of its `Spec` alone, on every machine;
two specs that differ only in colour or texture differ only inside the object, and outside `paint`
only by soft edges of less than half a pixel's coverage; two that differ only in background have
the same masks where the ground is at the same height.

What is feasible is in feasibility.py; what captions say is in captions.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import skia

from . import aircraft, cars, pets, scenes, textures
from .canvas import Ground
from .feasibility import ALL, COLORS, FAMILIES, FEASIBLE, SCENES, SIZE, TEXTURES, split, values
from .parts import Part

DRAWERS = {"cars": cars, "aircraft": aircraft, "pets": pets}
SPLITS = ("train", "val", "test")
_WIDE, _DRAWN, _WEB = 9, 10, 11  # streams of wide(), of replicates, of web()
COMMON = 0.9  # share of a web picture's attributes that are feasible, each by itself


@dataclass(frozen=True)
class Spec:
    """All that determines a picture. `seed` moves pose, scenery and jitter, nothing else."""

    family: str
    class_name: str
    color: str
    texture: str
    background: str
    seed: int


@dataclass(frozen=True)
class Picture:
    """A rendering: image (128, 128, 3) uint8, mask and paint (128, 128) uint8 0 | 255."""

    image: np.ndarray
    mask: np.ndarray
    paint: np.ndarray
    spec: Spec

    @property
    def label(self) -> int:
        """Index of the fine class within its family, 0..7."""
        return class_names(self.spec.family).index(self.spec.class_name)


def class_names(family: str) -> tuple[str, ...]:
    """The eight fine-grained classes of a family, in label order."""
    return tuple(DRAWERS[family].CLASSES)


def _rng(*parts: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(parts))))


def photograph(family: str, split: str, index: int) -> Picture:
    """The index-th photograph of a split: everything feasible, classes in turn.

    Index i has class i mod 8; colour, texture and scene are uniform over FEASIBLE[family].
    Train, validation and test are separate random streams, so none shares a seed.
    """
    rng = _rng(SPLITS.index(split), FAMILIES.index(family), index)
    names, law = class_names(family), FEASIBLE[family]
    return render(
        Spec(
            family,
            names[index % len(names)],
            str(rng.choice(law["color"])),
            str(rng.choice(law["texture"])),
            str(rng.choice(law["background"])),
            int(rng.integers(2**62)),
        )
    )


def photograph_of(family: str, image_split: str, index: int, base: int, replicate: int) -> Picture:
    """The index-th photograph of a split of a replicate: its familiar values alone, four of each
    attribute (feasibility.split), classes in turn.

    base: the study's seed. No photograph of one replicate, seed or split is another's.
    """
    place = (SPLITS.index(image_split), FAMILIES.index(family), index)
    rng, names = _rng(_DRAWN, base, replicate, *place), class_names(family)
    shown = {a: split(family, a, base, replicate).shown for a in ("color", "texture", "background")}
    chosen = {a: str(rng.choice(v)) for a, v in shown.items()}
    name = names[index % len(names)]
    return render(Spec(family, name, **chosen, seed=int(rng.integers(2**62))))


def web(index: int, stream: int = 0) -> Picture:
    """The index-th picture of a web-like distribution: mostly feasible, some of everything.

    Each attribute by itself is one of the family's six feasible values in 9 of 10 pictures, else
    any other value that the world has, so that 73 % of pictures are feasible throughout, and what
    is infeasible is rare, not unseen. Trains the CLIP alone; streams as in `wide`.
    """
    rng = _rng(_WEB, stream, index)
    family = str(rng.choice(FAMILIES))
    name, chosen = str(rng.choice(class_names(family))), {}
    for attribute, known in ALL.items():
        feasible, _ = values(family, attribute)
        others = [v for v in known if v not in feasible]
        chosen[attribute] = str(rng.choice(feasible if rng.random() < COMMON else others))
    return render(Spec(family, name, **chosen, seed=int(rng.integers(2**62))))


def edited(spec: Spec, attribute: str, value: str) -> np.ndarray:
    """The photograph of `spec` with another value of one attribute, (128, 128, 3) uint8: a perfect
    edit.

    Colour and texture: the same rendering otherwise; what differs lies inside the object.
    Background: the object of the photograph, its place, pose and light unchanged, in another scene
    with that scene's shadow under it. Raises ValueError for what is no attribute.
    """
    if attribute == "color":
        return render(replace(spec, color=value)).image
    if attribute == "texture":
        return render(replace(spec, texture=value)).image
    if attribute != "background":
        raise ValueError(f"attribute is {attribute!r}, wanted background, color or texture")
    ground = _backdrop(spec)[1]
    backdrop, other = _draw_scene(value, spec.seed)
    parts, place, feet = _placed(spec, ground)
    layer, _ = _object(spec, parts, place)
    return _lay(layer, ground.tint, backdrop, _shadow(feet, 0 if ground.floating else other.shadow))


def wide(index: int, stream: int = 0) -> Picture:
    """The index-th picture of the wide distribution, where anything may meet anything.

    Stands for what models see on the web; used to pretrain the micro models only. Streams are
    disjoint: 0 trains, 1 is held out for the model cards.
    """
    rng = _rng(_WIDE, stream, index)
    family = str(rng.choice(FAMILIES))
    return render(
        Spec(
            family,
            str(rng.choice(class_names(family))),
            str(rng.choice(list(COLORS))),
            str(rng.choice(TEXTURES)),
            str(rng.choice(SCENES)),
            int(rng.integers(2**62)),
        )
    )


def render(spec: Spec) -> Picture:
    """Draw one picture. KeyError or ValueError names an unknown family, class or attribute."""
    backdrop, ground = _backdrop(spec)
    parts, place, feet = _placed(spec, ground)
    layer, paint = _object(spec, parts, place)
    image = _lay(layer, ground.tint, backdrop, _shadow(feet, ground.shadow))
    mask = np.where(layer[..., 3] >= 128, 255, 0).astype(np.uint8)
    painted = np.where((paint >= 128) & (mask > 0), 255, 0).astype(np.uint8)
    return Picture(image, mask, painted, spec)


def _lay(
    layer: np.ndarray, tint: tuple[int, int, int], backdrop: np.ndarray, shadow: np.ndarray
) -> np.ndarray:
    """An object's premultiplied RGBA layer, in a scene's light, over a backdrop in its shadow."""
    alpha = layer[..., 3:].astype(np.float32) / 255.0
    rgb = layer[..., :3].astype(np.float32) * _tint(tint)
    below = backdrop.astype(np.float32) * (1.0 - shadow)[..., None]
    return np.clip(np.rint(below * (1.0 - alpha) + rgb), 0, 255).astype(np.uint8)


def empty_scene(background: str, seed: int) -> np.ndarray:
    """A scene with nobody in it, (128, 128, 3) uint8."""
    return _draw_scene(background, seed)[0]


def _draw_scene(background: str, seed: int) -> tuple[np.ndarray, Ground]:
    surface = skia.Surface(SIZE, SIZE)
    ground = scenes.draw(surface.getCanvas(), background, _rng(seed, 1))
    return _rgba(surface)[..., :3], ground


def _backdrop(spec: Spec) -> tuple[np.ndarray, Ground]:
    return _draw_scene(spec.background, spec.seed)


def _rgba(surface: skia.Surface) -> np.ndarray:
    array = np.empty((SIZE, SIZE, 4), np.uint8)
    info = skia.ImageInfo.Make(SIZE, SIZE, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType)
    if not surface.readPixels(info, array, SIZE * 4, 0, 0):
        raise RuntimeError("skia could not read its own surface back")
    return array


def _placed(spec: Spec, ground: Ground) -> tuple[list[Part], skia.Matrix, tuple]:
    """Parts in object coordinates, the matrix to pixels, and (x, y, half width) of the shadow."""
    pose = _rng(spec.seed, 2)
    parts = DRAWERS[spec.family].parts(
        spec.class_name, _rng(spec.seed, 3), grounded=not ground.floating
    )
    low, high = _width_range(spec.family)
    width, side = pose.uniform(low, high), 1.0 if pose.random() < 0.5 else -1.0
    x = SIZE / 2 + pose.uniform(-5, 5)
    y = pose.uniform(ground.y_far, ground.y_near)
    tilt = pose.uniform(-9, 9) if ground.floating else pose.uniform(-1.2, 1.2)
    if ground.floating:  # y is where the object's middle goes
        y += width * _middle_height(spec.family, spec.class_name)
    matrix = skia.Matrix()
    matrix.setTranslate(x, y)
    matrix.preRotate(tilt)
    matrix.preScale(width * side, width)
    return parts, matrix, (x, y, width / 2)


def _width_range(family: str) -> tuple[float, float]:
    return {"cars": (94, 114), "aircraft": (82, 102), "pets": (78, 98)}[family]


@lru_cache(maxsize=64)
def _middle_height(family: str, class_name: str) -> float:
    """Half the object's height in object units, from its unjittered parts."""
    boxes = [p.path.getBounds() for p in DRAWERS[family].parts(class_name, _rng(0), True)]
    return -min(b.top() for b in boxes) / 2


def _object(spec: Spec, parts: list[Part], place: skia.Matrix) -> tuple[np.ndarray, np.ndarray]:
    """The object alone: premultiplied RGBA (128, 128, 4), and coverage of its body (128, 128)."""
    surface, stencil = skia.Surface(SIZE, SIZE), skia.Surface(SIZE, SIZE)
    canvas, marks = surface.getCanvas(), stencil.getCanvas()
    canvas.clear(skia.ColorTRANSPARENT)
    marks.clear(skia.ColorTRANSPARENT)
    canvas.concat(place)
    marks.concat(place)
    tile = textures.pattern(spec.texture, COLORS[spec.color], _rng(spec.seed, 4), 2 * SIZE)
    skin = _as_image(tile)
    for part in parts:
        if part.role == "body":
            _draw_body(canvas, part, skin, place)
        else:
            _draw_detail(canvas, part)
        stamp = _paint(part)
        stamp.setColor(skia.ColorWHITE if part.role == "body" else skia.ColorBLACK)
        marks.drawPath(part.path, stamp)
    return _rgba(surface), _rgba(stencil)[..., 0]


def _as_image(tile: np.ndarray) -> skia.Image:
    rgba = np.dstack([tile, np.full(tile.shape[:2], 255, np.uint8)])
    return skia.Image.fromarray(np.ascontiguousarray(rgba), skia.kRGBA_8888_ColorType)


def _paint(part: Part) -> skia.Paint:
    """A paint that fills or strokes as the part says."""
    paint = skia.Paint(AntiAlias=True)
    if part.stroke > 0:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(part.stroke)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def _draw_skin(canvas: skia.Canvas, part: Part, skin: skia.Image, place: skia.Matrix) -> None:
    """The surface pattern through the part's outline: in pixel size, fixed to the object.

    A clip, not an image shader: skia-python copies a shader by encoding it, 2 ms for each part.
    """
    outline = part.path
    if part.stroke > 0:
        outline = skia.Path()
        _paint(part).getFillPath(part.path, outline)
    canvas.save()
    canvas.clipPath(outline, skia.ClipOp.kIntersect, True)
    canvas.setMatrix(skia.Matrix())
    canvas.drawImage(
        skin, round(place.getTranslateX()) - SIZE, round(place.getTranslateY()) - SIZE * 1.5
    )
    canvas.restore()


def _draw_body(canvas: skia.Canvas, part: Part, skin: skia.Image, place: skia.Matrix) -> None:
    """Colour and texture, then light from above and shade below: soft, so colours stay true."""
    _draw_skin(canvas, part, skin, place)
    if part.volume > 0:
        paint = _paint(part)
        box = part.path.getBounds()
        ends = [skia.Point(0, box.top()), skia.Point(0, box.bottom())]
        v = part.volume
        colors = [
            skia.Color4f(1, 1, 1, 0.34 * v).toColor(),
            skia.Color4f(1, 1, 1, 0).toColor(),
            skia.Color4f(0, 0, 0, 0).toColor(),
            skia.Color4f(0, 0, 0, 0.42 * v).toColor(),
        ]
        paint.setShader(skia.GradientShader.MakeLinear(ends, colors, [0.0, 0.42, 0.5, 1.0]))
        canvas.drawPath(part.path, paint)
    if part.light != 1.0:
        shade = _paint(part)
        dark = part.light < 1.0
        level = 0.0 if dark else 1.0
        shade.setColor4f(skia.Color4f(level, level, level, min(1.0, abs(1.0 - part.light))))
        canvas.drawPath(part.path, shade)


def _draw_detail(canvas: skia.Canvas, part: Part) -> None:
    paint = _paint(part)
    if part.bottom is None:
        paint.setColor(skia.Color(*part.color))
    else:
        box = part.path.getBounds()
        paint.setShader(
            skia.GradientShader.MakeLinear(
                [skia.Point(0, box.top()), skia.Point(0, box.bottom())],
                [skia.Color(*part.color), skia.Color(*part.bottom)],
            )
        )
    canvas.drawPath(part.path, paint)


def _tint(tint: tuple[int, int, int]) -> np.ndarray:
    """A quarter of the light on an object is the scene's, the rest is white: colours stay true."""
    return 0.75 + 0.25 * np.asarray(tint, np.float32) / 255.0


_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def _shadow(feet: tuple[float, float, float], depth: float) -> np.ndarray:
    """Contact shadow, (128, 128) in 0..1: a soft flat ellipse under the object."""
    if depth <= 0:
        return np.zeros((SIZE, SIZE), np.float32)
    x, y, half = feet
    distance = ((_COLUMNS - x) / (half * 1.02)) ** 2 + ((_ROWS - y) / 5.0) ** 2
    return 0.75 * depth * np.clip(1.25 - distance, 0, 1) ** 1.5
