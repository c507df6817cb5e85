"""Builds small paths in object coordinates: points are (x, height above the ground)."""

from __future__ import annotations

import skia


def soft(*corners: tuple[float, float, float]) -> skia.Path:
    """A closed polygon of (x, height, rounding distance): corners are cut off at that distance."""
    path, count = skia.Path(), len(corners)
    for i, (x, h, r) in enumerate(corners):
        ends = []
        for px, ph, _ in (corners[i - 1], corners[(i + 1) % count]):
            gap = max(1e-6, ((px - x) ** 2 + (ph - h) ** 2) ** 0.5)
            t = min(0.5, r / gap)
            ends.append((x + (px - x) * t, -(h + (ph - h) * t)))
        (path.lineTo if i else path.moveTo)(*ends[0])
        path.conicTo(x, -h, *ends[1], 0.8)
    path.close()
    return path


def line(*points: tuple[float, float]) -> skia.Path:
    """An open polyline."""
    path = skia.Path()
    path.moveTo(points[0][0], -points[0][1])
    for x, h in points[1:]:
        path.lineTo(x, -h)
    return path


def curve(*points: tuple[float, float]) -> skia.Path:
    """An open smooth curve: start, then (control, control, end) triples."""
    path = skia.Path()
    path.moveTo(points[0][0], -points[0][1])
    for a, b, c in zip(points[1::3], points[2::3], points[3::3]):
        path.cubicTo(a[0], -a[1], b[0], -b[1], c[0], -c[1])
    return path


def oval(x: float, h: float, w: float, t: float, turn: float = 0.0) -> skia.Path:
    """An ellipse of width w and height t around a point, turned by `turn` degrees."""
    path = skia.Path()
    path.addOval(skia.Rect(x - w / 2, -h - t / 2, x + w / 2, -h + t / 2))
    if turn:
        matrix = skia.Matrix()
        matrix.setRotate(turn, x, -h)
        path.transform(matrix)
    return path


def dots(points: list[tuple[float, float]], radius: float) -> skia.Path:
    """Several small discs in one path."""
    path = skia.Path()
    for x, h in points:
        path.addCircle(x, -h, radius)
    return path
