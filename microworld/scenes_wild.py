"""Draws scenes of nature, on earth and off it.

A scene paints the whole canvas and answers where an object may stand in it.
"""

from __future__ import annotations

import numpy as np
import skia

from .canvas import RGB, SIZE, Brush, Ground, shade


def cactus(b: Brush, x: float, y: float, h: float) -> None:
    for color, shift in (((42, 110, 70), 0.8), ((78, 150, 88), -0.6)):
        w = 0.17 * h if shift > 0 else 0.09 * h
        b.line([(x + shift, y), (x + shift, y - h)], color, w)
        b.line(
            [(x, y - 0.4 * h), (x - 0.27 * h, y - 0.42 * h), (x - 0.27 * h, y - 0.7 * h)],
            color,
            0.75 * w,
        )
        b.line(
            [(x, y - 0.3 * h), (x + 0.25 * h, y - 0.32 * h), (x + 0.25 * h, y - 0.56 * h)],
            color,
            0.75 * w,
        )


def desert(b: Brush) -> Ground:
    b.fade(0, 80, (92, 178, 224), (252, 226, 168))
    x, y = b.u(18, 110), b.u(14, 28)
    b.glow(x, y, 34, (255, 244, 190), 0.9)
    b.oval(x, y, 10, 10, (255, 240, 150))
    for x in (b.u(-4, 26), b.u(94, 128)):
        w, top = b.u(18, 26), b.u(46, 54)
        b.poly([(x - w, 82), (x - w * 0.6, top), (x + w * 0.6, top), (x + w, 82)], (206, 122, 84))
        b.poly(
            [(x + w * 0.1, 82), (x + w * 0.3, top), (x + w * 0.6, top), (x + w, 82)], (176, 96, 72)
        )
    b.hills(72, 5, (232, 178, 102), 90)
    b.hills(83, 4, (244, 200, 122), 70)
    b.fade(94, SIZE, (242, 196, 118), (222, 164, 88))
    b.hills(96, 3, (242, 196, 118), 100, 106)
    b.hills(122, 2.5, (210, 150, 80), 80)
    for x, h in ((b.u(8, 20), b.u(34, 46)), (b.u(106, 120), b.u(28, 40))):
        b.oval(x + 8, 95, 12, 2.4, (176, 116, 64), 0.6)
        cactus(b, x, 95, h)
    b.oval(b.u(20, 108), 123, 7, 4, (172, 114, 76))
    return Ground(114, 94, False, (255, 248, 232), 0.45)


def pine_forest(b: Brush) -> Ground:
    b.fade(0, 90, (170, 206, 204), (222, 234, 206))
    b.glow(b.u(30, 98), 20, 50, (255, 252, 214), 0.8)
    for y, h, step, color in ((78, 60, 16, (134, 174, 158)), (86, 68, 19, (76, 130, 106))):
        for x in np.arange(b.u(-8, 2), SIZE + 8, step):
            b.fir(x + b.u(-3, 3), y, h * b.u(0.82, 1.1), color)
    b.hills(75, 1.5, (62, 106, 80), 40)
    b.fade(83, SIZE, (104, 130, 66), (70, 90, 48))
    for x in (b.u(-2, 6), b.u(18, 28), b.u(100, 110), b.u(120, 130)):
        b.fir(x, b.u(90, 96), b.u(72, 90), (36, 92, 66))
    for _ in range(7):
        b.oval(b.u(0, SIZE), b.u(98, 126), b.u(8, 16), b.u(2, 3.5), (138, 116, 66), 0.55)
    for x in (b.u(4, 30), b.u(98, 124)):
        b.oval(x, 121, 9, 5, (52, 104, 54))
        b.oval(x - 2, 119, 5, 3, (82, 138, 66))
    return Ground(114, 94, False, (240, 250, 236), 0.45)


def peak(b: Brush, x: float, top: float, half: float, base: float, rock: RGB) -> None:
    dark = shade(rock, 0.78)
    b.poly([(x - half, base), (x, top), (x + half, base)], rock)
    b.poly([(x + 0.1 * half, base), (x, top), (x + half, base)], dark)
    h = base - top
    zig = [
        (x - 0.55 * half, top + 0.55 * h),
        (x - 0.3 * half, top + 0.46 * h),
        (x - 0.1 * half, top + 0.62 * h),
        (x + 0.15 * half, top + 0.44 * h),
        (x + 0.36 * half, top + 0.6 * h),
        (x + 0.52 * half, top + 0.52 * h),
    ]
    b.poly([(x, top), *zig[::-1]], (250, 252, 255))
    b.poly([(x, top), *zig[:2:-1], (x + 0.04 * half, top + 0.3 * h)], (206, 222, 242))


def snowy_mountains(b: Brush) -> Ground:
    b.fade(0, 84, (86, 150, 216), (214, 232, 248))
    for x in (b.u(-4, 16), b.u(50, 78), b.u(112, 132)):
        peak(b, x, b.u(22, 34), b.u(36, 44), 88, (146, 168, 204))
    for x in (b.u(22, 36), b.u(88, 104)):
        peak(b, x, b.u(8, 22), b.u(36, 44), 90, (104, 126, 170))
    b.hills(84, 3, (226, 236, 250), 70)
    for x in (b.u(2, 10), b.u(14, 24), b.u(102, 112), b.u(116, 126)):
        h = b.u(22, 32)
        b.fir(x, 93, h, (60, 104, 112))
        b.poly(
            [(x - 0.12 * h, 93 - 0.72 * h), (x, 93 - h), (x + 0.1 * h, 93 - 0.75 * h)],
            (248, 252, 255),
        )
    b.fade(96, SIZE, (240, 246, 254), (212, 226, 246))
    b.hills(94, 2, (240, 246, 254), 90, 104)
    b.hills(120, 2.5, (200, 216, 240), 100)
    return Ground(114, 95, False, (242, 248, 255), 0.35)


def cloudy_sky(b: Brush) -> Ground:
    b.fade(0, SIZE, (46, 124, 214), (104, 176, 238), (190, 224, 248))
    for x, y, w in (
        (b.u(8, 36), b.u(24, 34), 42),
        (b.u(88, 118), b.u(28, 42), 50),
        (b.u(50, 80), b.u(16, 22), 26),
        (b.u(-4, 14), b.u(72, 84), 40),
        (b.u(112, 130), b.u(84, 94), 42),
    ):
        b.cloud(x, y, w * b.u(0.85, 1.15))
    for x in np.arange(b.u(-10, 0), 140, 30):
        b.cloud(x, b.u(118, 126), b.u(44, 58))
    return Ground(80, 48, True, (246, 250, 255), 0.0)


def sunset_sky(b: Brush) -> Ground:
    b.fade(0, SIZE, (74, 48, 128), (176, 70, 134), (244, 122, 84), (255, 190, 92))
    x, y = b.u(26, 102), b.u(96, 106)
    b.glow(x, y, 60, (255, 226, 130), 0.85)
    b.oval(x, y, 15, 15, (255, 240, 178))
    streaks = (
        (14, (120, 62, 140)),
        (30, (206, 92, 140)),
        (48, (150, 66, 134)),
        (66, (255, 158, 112)),
        (84, (206, 88, 104)),
        (110, (250, 140, 84)),
    )
    for y, color in streaks:
        x, y, w = b.u(0, SIZE), y + b.u(-5, 5), b.u(50, 84)
        b.rect(x - w / 2, y, w, 6, color, 3)
        b.rect(x - w * 0.2, y - 4, w * 0.6, 6, color, 3)
        b.rect(x - w * 0.7, y + 4, w * 0.5, 4, color, 2)
    for x in np.arange(b.u(-10, 0), 140, 30):
        b.cloud(x, b.u(126, 132), b.u(40, 54), (176, 76, 112), (118, 52, 108))
    return Ground(78, 46, True, (255, 226, 206), 0.0)


def grassy_park(b: Brush) -> Ground:
    b.fade(0, 76, (118, 192, 240), (222, 240, 246))
    for x in (b.u(26, 56), b.u(72, 104)):
        b.cloud(x, b.u(16, 28), b.u(26, 36))
    b.hills(68, 4, (136, 198, 128), 60)
    for x in np.arange(b.u(-4, 6), SIZE + 8, 17):
        b.tree(x, 78, b.u(24, 34), b.pick(((84, 158, 84), (100, 168, 78), (70, 146, 92))))
    b.fade(76, SIZE, (146, 208, 88), (92, 170, 62))
    shift, sway = b.u(-10, 10), b.u(16, 22)
    rows = [
        (t, 78 + 50 * t * t, 64 + shift + sway * np.sin(5.2 * t) - 34 * t * t)
        for t in np.linspace(0, 1, 12)
    ]
    b.poly(
        [(x - 4 - 22 * t, y) for t, y, x in rows] + [(x + 4 + 22 * t, y) for t, y, x in rows[::-1]],
        (236, 214, 168),
    )
    b.tree(b.u(4, 12), 96, b.u(72, 84), (62, 142, 66))
    x = b.u(96, 102)
    for dx in (3, 21):
        b.rect(x + dx, 80, 3, 16, (70, 70, 80))
    for y in (74, 79, 86):
        b.rect(x, y, 27, 3.6, (168, 104, 58), 1)
    for _ in range(8):
        color = b.pick(((250, 236, 240), (250, 214, 70), (240, 110, 120)))
        b.oval(b.u(0, SIZE), b.u(104, 127), 2.4, 2.4, color)
    return Ground(115, 95, False, (250, 255, 244), 0.4)


def beach(b: Brush) -> Ground:
    b.fade(0, 57, (84, 186, 240), (206, 238, 248))
    b.cloud(b.u(50, 90), b.u(18, 28), b.u(26, 38))
    b.fade(56, 93, (24, 118, 190), (42, 178, 208), (120, 222, 218))
    for _ in range(5):
        b.rect(b.u(-10, 110), b.u(60, 76), b.u(14, 24), 2.4, (160, 226, 236), 1.2)
    b.hills(85, 1.6, (246, 252, 250), 46)
    b.hills(88, 1.6, (236, 206, 146), 46)
    b.fade(92, SIZE, (248, 222, 162), (238, 200, 132))
    x, lean = b.u(10, 16), b.u(2, 6)
    for k in range(8):
        y = 96 - 8.5 * k
        b.oval(x + lean * (k / 7) ** 2, y - 3, 3.4 - 0.15 * k, 5.5, (156, 108, 66))
    tx, ty = x + lean, 30
    for dx, dy in ((-24, 8), (-18, -7), (0, -14), (19, -8), (26, 6), (12, 14), (-10, 15)):
        b.poly(
            [
                (tx, ty - 2),
                (tx + dx * 0.55, ty + dy * 0.55 - 6),
                (tx + dx, ty + dy + 4),
                (tx + dx * 0.5, ty + dy * 0.5 + 1.5),
            ],
            (44, 146, 82) if dx < 5 else (34, 122, 74),
        )
    x, top = b.u(104, 112), b.u(50, 56)
    stripe = b.pick(((232, 70, 66), (240, 120, 50), (226, 64, 110)))
    b.rect(x - 1.3, top, 2.6, 46, (240, 236, 226))
    for k in range(4):
        half = 24 - 6.5 * k
        b.canvas.drawArc(
            skia.Rect.MakeLTRB(x - half, top - 6, x + half, top + 30),
            180,
            180,
            True,
            b.paint(stripe if k % 2 == 0 else (250, 246, 238)),
        )
    b.oval(b.u(20, 108), 123, 5, 3, (246, 150, 110))
    return Ground(116, 95, False, (255, 252, 240), 0.4)


def fish(b: Brush, x: float, y: float, r: float, color: RGB) -> None:
    way = -1 if x > 64 else 1
    b.poly(
        [
            (x - way * r * 0.7, y),
            (x - way * r * 1.8, y - r * 0.7),
            (x - way * r * 1.8, y + r * 0.7),
        ],
        color,
    )
    b.oval(x, y, r, 0.62 * r, color)
    b.oval(x - way * 0.1 * r, y, 0.18 * r, 0.58 * r, (255, 250, 236))
    b.oval(x + way * 0.55 * r, y - 0.12 * r, 1.2, 1.2, (20, 30, 50))


def underwater(b: Brush) -> Ground:
    b.fade(0, SIZE, (70, 202, 226), (22, 128, 190), (10, 62, 132))
    for x in np.arange(b.u(-4, 12), SIZE, 32):
        lean, w = b.u(-26, -12), b.u(7, 11)
        b.poly(
            [(x, 0), (x + w, 0), (x + w * 2 + lean, 110), (x - w + lean, 110)], (200, 248, 250), 0.2
        )
    b.hills(108, 4, (12, 76, 132), 60)
    b.hills(118, 3, (206, 186, 132), 70)
    for x in (b.u(2, 9), b.u(14, 22), b.u(104, 112), b.u(117, 125)):
        h, green = b.u(36, 60), b.pick(((36, 152, 96), (28, 128, 104), (84, 164, 72)))
        wave = [(x + 3.5 * np.sin(k * 1.1 + x), 122 - h * k / 7) for k in range(8)]
        b.line(wave, green, 5)
    for x in (b.u(28, 40), b.u(84, 96)):
        coral = b.pick(((244, 104, 112), (250, 146, 80), (226, 96, 160)))
        for dx, dy in ((-7, -12), (0, -17), (7, -11)):
            b.line([(x, 122), (x + dx, 122 + dy)], coral, 4.5)
    gold = ((255, 166, 50), (255, 216, 70), (250, 112, 92))
    for x, y in (
        (b.u(14, 26), b.u(16, 30)),
        (b.u(98, 114), b.u(26, 44)),
        (b.u(10, 18), b.u(56, 68)),
        (b.u(60, 80), b.u(10, 18)),
    ):
        fish(b, x, y, b.u(6, 8.5), b.pick(gold))
    for x in (b.u(30, 44), b.u(86, 98), b.u(112, 122)):
        for k in range(3):
            b.oval(
                x + b.u(-4, 4),
                80 - 22 * k + b.u(-6, 6),
                3 - 0.4 * k,
                3 - 0.4 * k,
                (206, 246, 252),
                0.6,
            )
    return Ground(80, 50, True, (200, 234, 250), 0.0)


def stars(b: Brush, count: int, bottom: float) -> None:
    for _ in range(count):
        r = b.u(0.9, 1.7)
        b.oval(b.u(2, 126), b.u(2, bottom), r, r, (255, 252, 232))


def crater(b: Brush, x: float, y: float, r: float) -> None:
    b.oval(x, y, r, 0.36 * r, (208, 208, 210))
    b.oval(x, y - 0.03 * r, 0.88 * r, 0.29 * r, (104, 104, 112))
    b.oval(x + 0.08 * r, y + 0.08 * r, 0.72 * r, 0.2 * r, (142, 142, 148))


def moon(b: Brush) -> Ground:
    b.fade(0, 86, (6, 6, 14), (20, 20, 34))
    stars(b, 26, 66)
    x, y, r = b.u(20, 108), b.u(20, 30), b.u(13, 16)
    b.glow(x, y, r * 1.7, (90, 160, 255), 0.6)
    b.oval(x, y, r, r, (44, 112, 214))
    b.oval(x - 0.3 * r, y - 0.25 * r, 0.45 * r, 0.4 * r, (72, 170, 92))
    b.oval(x + 0.35 * r, y + 0.3 * r, 0.36 * r, 0.42 * r, (72, 170, 92))
    b.oval(x + 0.1 * r, y - 0.68 * r, 0.5 * r, 0.18 * r, (246, 250, 255))
    b.oval(x - 0.3 * r, y + 0.5 * r, 0.42 * r, 0.15 * r, (246, 250, 255))
    b.hills(72, 6, (112, 112, 120), 56)
    b.hills(82, 3.5, (150, 150, 156), 74)
    b.fade(92, SIZE, (174, 174, 178), (132, 132, 138))
    b.hills(90, 2, (174, 174, 178), 90, 98)
    for x, y, r in (
        (b.u(8, 24), 90, 12),
        (b.u(98, 116), 93, 14),
        (b.u(40, 84), 87, 8),
        (b.u(2, 18), 116, 15),
        (b.u(104, 124), 119, 17),
        (b.u(40, 84), 124, 11),
    ):
        crater(b, x, y + b.u(-2, 2), r * b.u(0.9, 1.15))
    return Ground(114, 95, False, (244, 244, 250), 0.6)


def lava_field(b: Brush) -> Ground:
    b.fade(0, 84, (56, 14, 26), (156, 34, 28), (248, 112, 44))
    x = b.u(36, 92)
    for dx, dy, r in ((0, 8, 13), (-12, 2, 14), (13, 0, 15), (-27, -2, 13), (30, -4, 13)):
        b.oval(x + dx, 12 + dy * 0.8, r, r * 0.7, (66, 38, 44))
    b.glow(x, 32, 34, (255, 170, 50), 0.9)
    b.poly([(x - 54, 88), (x - 10, 32), (x + 10, 32), (x + 54, 88)], (60, 38, 44))
    b.poly([(x + 6, 88), (x + 3, 32), (x + 10, 32), (x + 54, 88)], (40, 26, 34))
    b.poly(
        [(x - 10, 32), (x + 10, 32), (x + 7, 42), (x + 3, 38), (x - 1, 54), (x - 5, 40)],
        (255, 140, 36),
    )
    for side in (-1, 1):
        b.line(
            [(x + side * 5, 36), (x + side * 12, 54), (x + side * 20, 66), (x + side * 36, 86)],
            (255, 112, 30),
            3.5,
        )
    b.hills(80, 4, (50, 30, 36), 44)
    for x in (b.u(-2, 10), b.u(112, 128)):
        h = b.u(22, 36)
        b.poly([(x - 16, 94), (x - 7, 94 - h), (x + 5, 90 - h), (x + 15, 94)], (44, 28, 36))
        b.poly([(x - 16, 94), (x - 7, 94 - h), (x - 2, 94)], (92, 50, 48))
    b.fade(88, SIZE, (58, 36, 40), (34, 22, 28))
    for depth, w in ((92, 4), (105, 5), (121, 6)):
        y, phase = depth + b.u(-2, 2), b.u(0, 6)
        crack = [
            (t, y + (3.5 if k % 2 else -3.5) * np.sin(phase + k))
            for k, t in enumerate(range(-4, 140, 13))
        ]
        b.line(crack, (226, 62, 20), w + 1)
        b.line(crack, (255, 184, 60), w * 0.45)
        for t, cy in crack[1 + int(b.u(0, 2)) :: 3]:
            b.line([(t, cy), (t + b.u(-8, 8), cy + 13)], (236, 84, 26), 3)
    for _ in range(9):
        b.oval(b.u(2, 126), b.u(30, 88), 1.6, 1.6, (255, 190, 70))
    return Ground(115, 96, False, (255, 216, 192), 0.5)


def outer_space(b: Brush) -> Ground:
    b.fade(0, SIZE, (10, 8, 28), (30, 14, 60), (12, 8, 34))
    shift = b.u(-12, 12)
    for k in range(6):
        x, y = 10 + 22 * k + b.u(-8, 8), 104 - 16 * k + shift + b.u(-8, 8)
        b.glow(x, y, b.u(28, 40), (150, 50, 190) if k % 2 else (76, 60, 220), 0.6)
        b.glow(x + 6, y + 4, 16, (240, 110, 200), 0.4)
    stars(b, 34, 126)
    for _ in range(5):
        x, y = b.u(6, 122), b.u(6, 122)
        b.glow(x, y, 6, (200, 220, 255), 0.7)
        b.poly([(x - 4, y), (x, y - 0.9), (x + 4, y), (x, y + 0.9)], (255, 255, 255))
        b.poly([(x, y - 4), (x + 0.9, y), (x, y + 4), (x - 0.9, y)], (255, 255, 255))
    x, y, r = b.u(98, 110), b.u(20, 32), b.u(13, 17)
    hue = b.pick(((240, 156, 84), (236, 128, 110), (230, 178, 104)))
    b.oval(x, y, r, r, hue)
    b.oval(x + 0.25 * r, y + 0.25 * r, 0.7 * r, 0.68 * r, shade(hue, 0.84))
    b.rect(x - 0.9 * r, y - 0.35 * r, 1.6 * r, 0.26 * r, (255, 222, 164), 2)
    ring = skia.Rect.MakeLTRB(-1.75 * r, -0.45 * r, 1.75 * r, 0.45 * r)
    b.canvas.save()
    b.canvas.translate(x, y)
    b.canvas.rotate(-18)
    for start, sweep in ((-45, 90), (45, 90), (135, 90)):  # all but what the planet hides
        b.canvas.drawArc(ring, start, sweep, False, b.paint((250, 226, 190), 1, 3.4))
    b.canvas.restore()
    x, y, r = b.u(12, 26), b.u(100, 116), b.u(15, 20)
    b.oval(x, y, r, r, (60, 132, 190))
    b.oval(x + 0.22 * r, y + 0.2 * r, 0.76 * r, 0.76 * r, (38, 92, 156))
    b.oval(x - 0.4 * r, y - 0.4 * r, 0.3 * r, 0.2 * r, (150, 216, 236))
    return Ground(80, 50, True, (232, 226, 255), 0.0)
