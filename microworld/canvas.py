"""Draws the shapes of scenes in one light, and says where an object may stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import skia

SIZE = 128
RGB = tuple[int, int, int]
NEUTRAL: RGB = (255, 255, 255)


@dataclass(frozen=True)
class Ground:
    """Where an object may be: the rows of its contact line, or of its centre where it floats."""

    y_near: float
    y_far: float
    floating: bool
    tint: RGB
    shadow: float


def shade(color: RGB, factor: float) -> RGB:
    """`color`, darker or lighter by `factor`."""
    r, g, b = (min(255, int(factor * c)) for c in color)
    return r, g, b


class Brush:
    """Shapes on one canvas, all of them in the light (`tone`) of one hour of the day."""

    def __init__(self, canvas: skia.Canvas, rng: np.random.Generator) -> None:
        self.canvas, self.rng = canvas, rng
        light, warmth = rng.uniform(0.94, 1.05), rng.uniform(-0.04, 0.04)
        self.tone = (light * (1 + warmth), light, light * (1 - warmth))

    def u(self, low: float, high: float) -> float:
        """A uniform random number."""
        return low + (high - low) * self.rng.random()

    def pick(self, options: Sequence[RGB]) -> RGB:
        """One of `options`."""
        return options[int(self.rng.random() * len(options))]

    def ink(self, color: RGB, alpha: float = 1.0) -> int:
        """`color` in this hour's light."""
        r, g, b = (min(255, int(c * t)) for c, t in zip(color, self.tone))
        return skia.Color(r, g, b, int(255 * alpha))

    def paint(self, color: RGB, alpha: float = 1.0, width: float = 0.0) -> skia.Paint:
        """A fill, or where `width` is given a round-ended stroke."""
        paint = skia.Paint(AntiAlias=True, Color=self.ink(color, alpha))
        if width:
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
            paint.setStrokeCap(skia.Paint.kRound_Cap)
        return paint

    def rect(
        self, x: float, y: float, w: float, h: float, color: RGB, r: float = 0.0, alpha: float = 1.0
    ) -> None:
        """A rectangle, with corners of radius `r`."""
        self.canvas.drawRoundRect(skia.Rect.MakeXYWH(x, y, w, h), r, r, self.paint(color, alpha))

    def oval(
        self, x: float, y: float, rx: float, ry: float, color: RGB, alpha: float = 1.0
    ) -> None:
        """An ellipse about (x, y)."""
        box = skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry)
        self.canvas.drawOval(box, self.paint(color, alpha))

    def poly(self, points: Sequence[tuple[float, float]], color: RGB, alpha: float = 1.0) -> None:
        """A filled polygon."""
        path = skia.Path.Polygon([skia.Point(x, y) for x, y in points], True)
        self.canvas.drawPath(path, self.paint(color, alpha))

    def line(
        self, points: Sequence[tuple[float, float]], color: RGB, width: float, alpha: float = 1.0
    ) -> None:
        """An open polyline."""
        path = skia.Path.Polygon([skia.Point(x, y) for x, y in points], False)
        self.canvas.drawPath(path, self.paint(color, alpha, width))

    def fade(self, y0: float, y1: float, *colors: RGB) -> None:
        """A full-width band from y0 to y1, a vertical gradient through `colors`."""
        ends = [skia.Point(0, y0), skia.Point(0, y1)]
        shader = skia.GradientShader.MakeLinear(ends, [self.ink(c) for c in colors])
        self.canvas.drawRect(skia.Rect.MakeLTRB(0, y0, SIZE, y1), skia.Paint(Shader=shader))

    def glow(self, x: float, y: float, r: float, color: RGB, alpha: float) -> None:
        """A soft round light."""
        inks = [self.ink(color, alpha), self.ink(color, 0)]
        shader = skia.GradientShader.MakeRadial(skia.Point(x, y), r, inks)
        self.canvas.drawCircle(x, y, r, skia.Paint(Shader=shader))

    def hills(
        self, y: float, height: float, color: RGB, span: float = 60.0, base: float = SIZE
    ) -> None:
        """Rolling hills about row y, filled down to `base`."""
        phase, period = self.u(0, 6.3), span * self.u(0.85, 1.15) / 6.283
        crest = [
            (
                x,
                y
                - height
                * (np.sin(x / period + phase) + 0.4 * np.sin(1.7 * x / period + 2 * phase)),
            )
            for x in range(-4, 137, 6)
        ]
        self.poly([*crest, (SIZE + 4, base), (-4, base)], color)

    def cloud(
        self, x: float, y: float, w: float, lit: RGB = (255, 255, 255), shade: RGB = (206, 222, 240)
    ) -> None:
        """A cumulus `w` wide whose flat base is at row y."""
        puffs = [(-0.3, 0.1, 0.2), (0.32, 0.09, 0.18), (-0.08, 0.2, 0.26), (0.15, 0.15, 0.22)]
        for color, lift in ((shade, 0.0), (lit, 0.07 * w)):
            self.rect(x - w / 2, y - 0.2 * w - lift, w, 0.22 * w, color, 0.11 * w)
            for dx, dy, r in puffs:
                self.oval(x + dx * w, y - dy * w - lift, r * w, r * w * 0.85, color)

    def fir(self, x: float, y: float, h: float, color: RGB) -> None:
        """A fir of height h standing on row y, lit from the left."""
        dark = shade(color, 0.78)
        self.rect(x - 0.05 * h, y - 0.16 * h, 0.1 * h, 0.16 * h, (74, 52, 40))
        for low, half in ((0.1, 0.27), (0.34, 0.22), (0.58, 0.15)):
            foot, top = y - low * h, y - min(1.0, low + 0.46) * h
            self.poly([(x - half * h, foot), (x, top), (x + half * h, foot)], color)
            self.poly([(x, foot), (x, top), (x + half * h, foot)], dark)

    def tree(self, x: float, y: float, h: float, color: RGB) -> None:
        """A round leafy tree of height h standing on row y."""
        light = shade(color, 1.18)
        self.rect(x - 0.06 * h, y - 0.45 * h, 0.12 * h, 0.45 * h, (112, 78, 50))
        for dx, dy, r in ((-0.17, 0.5, 0.22), (0.18, 0.52, 0.22), (0, 0.74, 0.27)):
            self.oval(x + dx * h, y - dy * h, r * h, r * h, color)
        self.oval(x - 0.09 * h, y - 0.78 * h, 0.14 * h, 0.13 * h, light)

    def lamp(self, x: float, y: float, h: float, arm: float, color: RGB) -> None:
        """A street lamp on row y, its arm reaching `arm` px sideways."""
        self.line([(x, y), (x, y - h), (x + arm, y - h)], color, 2.2)
        self.oval(x + arm, y - h + 1, 3.5, 2.2, (255, 236, 168))
