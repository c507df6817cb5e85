"""Draws built scenes: streets, an airport, rooms.

A scene paints the whole canvas and answers where an object may stand in it.
"""

from __future__ import annotations

import numpy as np
import skia

from .canvas import NEUTRAL, SIZE, Brush, Ground, shade


def city_street(b: Brush) -> Ground:
    b.fade(0, 90, (112, 164, 222), (226, 214, 214))
    for left in range(-6, 128, 16):
        b.rect(left, b.u(10, 30), 17, 80, (150, 164, 194))
    walls = ((196, 110, 84), (128, 116, 150), (222, 176, 120), (94, 122, 152), (168, 92, 92))
    first, x, k = int(b.u(0, 5)), b.u(-10, -2), 0
    while x < SIZE:
        w, top = b.u(26, 34), b.u(8, 34)
        b.rect(x, top, w, 88 - top, walls[(first + k) % 5])
        b.rect(x + w - 5, top, 5, 88 - top, (40, 40, 70), alpha=0.22)
        b.rect(x - 1, top, w + 1, 3, (70, 66, 84))
        for wy in np.arange(top + 7, 66, 11):
            for wx in (x + 4, x + 11.5, x + 19):
                b.rect(wx, wy, 5, 6.5, (255, 226, 130) if b.u(0, 1) < 0.55 else (62, 74, 104))
        b.rect(x + 2, 70, w - 8, 4, b.pick(((206, 60, 60), (52, 142, 120), (240, 236, 220))))
        b.rect(x + 3, 74, w - 10, 13, (56, 64, 88))
        x, k = x + w, k + 1
    b.fade(86, 95, (196, 192, 190), (172, 168, 170))
    b.rect(0, 94, SIZE, 3, (226, 224, 218))
    b.fade(97, SIZE, (84, 86, 98), (64, 66, 78))
    for x in np.arange(b.u(-20, 0), SIZE, 30):
        b.rect(x, 118, 17, 4, (236, 234, 224))
    for x in (b.u(6, 16), b.u(108, 120)):
        b.lamp(x, 92, 46, 8 if x < 64 else -8, (50, 54, 66))
    return Ground(116, 101, False, (252, 250, 250), 0.5)


def highway(b: Brush) -> Ground:
    b.fade(0, 76, (92, 170, 232), (214, 234, 244))
    for x in (b.u(10, 50), b.u(75, 120)):
        b.cloud(x, b.u(18, 34), b.u(26, 38))
    b.hills(60, 7, (132, 176, 168), 80)
    b.hills(68, 5, (104, 168, 92), 55)
    for x in (b.u(2, 22), b.u(28, 46), b.u(86, 100), b.u(106, 126)):
        b.tree(x, 76, b.u(14, 20), (58, 128, 70))
    b.fade(75, 90, (132, 190, 92), (112, 168, 80))
    for x in np.arange(b.u(-12, 0), SIZE, 19):
        b.rect(x, 79, 4, 12, (126, 132, 142))
    b.rect(0, 78, SIZE, 5.5, (216, 222, 228))
    b.rect(0, 81, SIZE, 2.5, (162, 170, 182))
    b.fade(89, SIZE, (104, 108, 116), (78, 82, 90))
    b.rect(0, 92, SIZE, 3, (244, 240, 230))
    for x in np.arange(b.u(-26, 0), SIZE, 36):
        b.poly([(x, 114), (x + 20, 114), (x + 22, 119), (x + 1, 119)], (250, 208, 60))
    return Ground(117, 99, False, NEUTRAL, 0.5)


def parking_lot(b: Brush) -> Ground:
    b.fade(0, 60, (158, 204, 236), (232, 238, 240))
    roof = b.u(24, 32)
    b.rect(0, roof, SIZE, 60, (232, 222, 206))
    b.rect(0, roof, SIZE, 5, (190, 178, 162))
    sign = b.pick(((214, 58, 58), (38, 120, 190), (46, 146, 92)))
    b.rect(b.u(34, 46), roof - 7, 42, 13, sign, 3)
    for x in np.arange(b.u(-8, 0), SIZE, 27):
        b.rect(x, roof + 16, 22, 72 - roof - 16, (104, 152, 178))
        b.poly(
            [(x + 3, 72), (x + 14, roof + 16), (x + 20, roof + 16), (x + 9, 72)], (176, 212, 226)
        )
        for s in range(3):
            b.rect(x + s * 7.4, roof + 11, 7.4, 7, sign if s % 2 == 0 else (250, 248, 242))
    b.rect(0, 71, SIZE, 7, (204, 202, 200))
    b.fade(77, SIZE, (128, 132, 138), (98, 102, 110))
    shift = b.u(-6, 6)
    for k in range(-3, 4):
        x = 64 + shift + 28 * k
        far, near = x + 14, 64 + (x + 14 - 64) * 1.7
        b.poly(
            [(far - 1.6, 82), (far + 1.6, 82), (near + 3, 128), (near - 3, 128)], (248, 246, 236)
        )
    b.rect(0, 80, SIZE, 3.4, (248, 246, 236))
    for x, arm in ((b.u(8, 16), 12), (b.u(112, 120), -12)):
        b.lamp(x, 82, 68, arm, (72, 78, 90))
        b.rect(x - 3.5, 77, 7, 7, (240, 200, 60), 1)
    return Ground(116, 96, False, NEUTRAL, 0.45)


def runway(b: Brush) -> Ground:
    b.fade(0, 72, (108, 176, 234), (224, 238, 246))
    b.cloud(b.u(56, 110), b.u(18, 30), b.u(28, 40))
    b.hills(68, 2.5, (124, 164, 140), 70)
    b.rect(58, 60, 74, 14, (206, 210, 216))
    for left in range(62, 128, 13):
        b.rect(left, 63, 8, 6, (96, 132, 164))
    x = b.u(14, 26)
    b.poly([(x - 4, 76), (x - 3, 34), (x + 3, 34), (x + 4, 76)], (226, 224, 220))
    b.rect(x + 0.5, 36, 3, 39, (180, 180, 184))
    b.poly([(x - 9, 22), (x + 9, 22), (x + 7, 35), (x - 7, 35)], (70, 112, 148))
    b.poly([(x - 6, 24), (x - 1, 24), (x - 3, 33), (x - 6, 33)], (158, 206, 230))
    b.rect(x - 10, 18, 20, 5, (212, 62, 54), 1)
    b.fade(73, SIZE, (128, 188, 90), (96, 158, 74))
    shift = b.u(-5, 5)
    b.poly([(48 + shift, 78), (80 + shift, 78), (150, 128), (-22, 128)], (98, 102, 112))
    for side in (-1, 1):
        b.poly(
            [
                (64 + shift + side * 14, 79),
                (64 + shift + side * 15.5, 79),
                (64 + side * 80, 128),
                (64 + side * 68, 128),
            ],
            (246, 246, 240),
        )
        for k in (0, 1):
            a, z = 3.5 + 4.2 * k, 14 + 21 * k
            b.poly(
                [
                    (64 + shift + side * a, 81),
                    (64 + shift + side * (a + 2.4), 81),
                    (64 + side * (z + 10) * 0.62, 93),
                    (64 + side * z * 0.62, 93),
                ],
                (246, 246, 240),
            )
    for y0, y1, w in ((97, 105, 2.5), (111, 128, 4)):
        b.poly(
            [(64 - w, y0), (64 + w, y0), (64 + w * 1.5, y1), (64 - w * 1.5, y1)], (246, 246, 240)
        )
    for x in (b.u(1, 8), b.u(110, 120)):
        b.rect(x, 92, 5, 5, (255, 198, 70), 2)
    return Ground(116, 96, False, NEUTRAL, 0.45)


def hangar(b: Brush) -> Ground:
    b.fade(0, 92, (58, 68, 86), (104, 116, 134))
    lift = b.u(-3, 3)
    for k, color in enumerate(((132, 146, 164), (84, 98, 118), (146, 160, 178), (92, 106, 126))):
        box = skia.Rect.MakeLTRB(9 * k - 6, 6 + 7 * k + lift, 134 - 9 * k, 190 - 7 * k)
        b.canvas.drawArc(box, 180, 180, False, b.paint(color, 1, 5.5))
    b.rect(33, 48 + lift, 62, 44, (164, 204, 234))
    b.rect(33, 74, 62, 18, (136, 178, 116))
    for x in (33, 47.5, 62, 76.5, 92):
        b.rect(x, 48 + lift, 3.5, 44, (62, 74, 94))
    b.rect(30, 46 + lift, 68, 5, (62, 74, 94))
    b.fade(88, SIZE, (176, 182, 190), (126, 134, 146))
    b.poly([(36, 88), (92, 88), (108, 128), (20, 128)], (216, 226, 234), 0.6)
    for side in (-1, 1):
        b.poly(
            [
                (64 + side * 40, 89),
                (64 + side * 43, 89),
                (64 + side * 62, 128),
                (64 + side * 55, 128),
            ],
            (246, 200, 50),
        )
    for x in (b.u(20, 26), 64 + b.u(-3, 3), b.u(102, 108)):
        y = 22 + lift + (0 if 50 < x < 80 else 8)
        b.line([(x, y - 14), (x, y)], (40, 46, 60), 1.6)
        b.poly([(x - 24, 88), (x, y), (x + 24, 88)], (255, 240, 190), 0.1)
        b.glow(x, y + 3, 13, (255, 240, 180), 0.8)
        b.poly([(x - 7, y + 3), (x - 3, y - 3), (x + 3, y - 3), (x + 7, y + 3)], (48, 56, 72))
        b.oval(x, y + 3.5, 5, 2.5, (255, 246, 206))
    for x in (b.u(2, 8), b.u(106, 112)):
        b.rect(x, 76, 12, 16, b.pick(((204, 62, 52), (40, 104, 172), (232, 150, 44))), 2)
        b.rect(x, 81, 12, 3, (240, 240, 236))
    return Ground(115, 97, False, (246, 246, 244), 0.4)


def living_room(b: Brush) -> Ground:
    wall = b.pick(((240, 214, 176), (236, 204, 178), (232, 218, 186)))
    b.fade(0, 90, wall, shade(wall, 0.93))
    x = b.u(42, 60)
    b.rect(x, 8, 36, 28, (122, 80, 50), 1.5)
    b.rect(x + 4, 12, 28, 20, (150, 202, 224))
    b.poly([(x + 4, 32), (x + 13, 19), (x + 20, 27), (x + 25, 22), (x + 32, 32)], (92, 152, 108))
    b.rect(0, 84, SIZE, 6, (250, 240, 222))
    b.fade(89, SIZE, (190, 130, 80), (160, 102, 60))
    for y in (97, 108):
        b.rect(0, y, SIZE, 1.6, (136, 84, 50))
    shift, sofa = b.u(-5, 5), b.pick(((58, 128, 138), (70, 118, 150), (62, 138, 122)))
    dark = shade(sofa, 0.78)
    b.rect(14 + shift, 46, 84, 38, sofa, 8)
    b.rect(16 + shift, 68, 80, 20, dark, 3)
    for k in (0, 1):
        b.rect(21 + shift + 36 * k, 66, 34, 11, shade(sofa, 1.15), 4)
    for x in (8, 92):
        b.rect(x + shift, 58, 13, 32, sofa, 6)
        b.rect(x + shift + 3, 88, 5, 5, (84, 56, 40))
    b.rect(24 + shift, 52, 15, 15, (240, 178, 66), 3)
    x = b.u(112, 118)
    b.glow(x, 34, 34, (255, 244, 190), 0.75)
    b.rect(x - 1.3, 36, 2.6, 54, (92, 68, 54))
    b.oval(x, 91, 8, 2.5, (92, 68, 54))
    b.poly([(x - 11, 40), (x - 6, 22), (x + 6, 22), (x + 11, 40)], (255, 222, 130))
    rug = b.pick(((196, 74, 66), (186, 84, 92), (204, 92, 58)))
    b.oval(64, 112, 58, 14, rug)
    b.oval(64, 112, 50, 10.5, (244, 220, 180))
    b.oval(64, 112, 45, 8.5, rug)
    return Ground(115, 99, False, (255, 246, 232), 0.4)


def kitchen(b: Brush) -> Ground:
    b.fade(0, 92, (206, 216, 206), (190, 204, 198))
    for row, y in enumerate(range(34, 60, 9)):
        for left in range(-12 + 6 * (row % 2), SIZE, 12):
            b.rect(left, y, 11, 8, (222, 240, 236) if (left // 6 + row) % 3 else (172, 212, 210), 1)
    front = b.pick(((96, 160, 150), (112, 164, 132), (92, 154, 166)))
    dark = shade(front, 0.85)
    shift = b.u(-6, 4)
    for left in range(-10, 96, 25):
        b.rect(left + shift, 2, 23, 28, front, 1.5)
        b.rect(left + shift + 4, 6, 15, 20, dark, 1)
        b.rect(left + shift + 17, 21, 4, 5, (246, 220, 140), 1)
    for left in range(-10, 96, 25):
        b.rect(left + shift, 62, 24, 30, front)
        b.rect(left + shift + 3, 67, 18, 21, dark, 1)
        b.rect(left + shift + 8, 68, 8, 3, (246, 220, 140), 1)
    b.rect(0, 57, 96, 6, (184, 130, 84))
    b.rect(0, 57, 96, 2, (214, 164, 112))
    x = b.u(8, 18)
    b.rect(x, 46, 14, 12, (212, 70, 58), 2)
    b.rect(x - 2, 44, 18, 3.5, (150, 44, 40), 1.5)
    x = b.u(34, 70)
    b.oval(x, 52, 5, 5.5, (250, 190, 60))
    b.oval(x + 7, 53, 4.5, 4.5, (124, 178, 70))
    x = b.u(91, 95)
    b.rect(x - 2, 12, 40, 82, (142, 156, 168), 4)
    b.rect(x, 14, 29, 26, (238, 242, 246), 4)
    b.rect(x, 42, 29, 51, (238, 242, 246), 4)
    b.rect(x + 4, 24, 3.5, 13, (136, 146, 158), 1.5)
    b.rect(x + 4, 47, 3.5, 18, (136, 146, 158), 1.5)
    b.fade(92, SIZE, (246, 240, 228), (232, 224, 210))
    shift = b.u(0, 18)
    for r, (y0, y1) in enumerate(((92, 100), (100, 111), (111, 128))):
        s0, s1 = 1 + (y0 - 92) / 36, 1 + (y1 - 92) / 36
        for k in range(-5, 5):
            if (k + r) % 2:
                a = 18 * k + shift - 9
                b.poly(
                    [
                        (64 + a * s0, y0),
                        (64 + (a + 18) * s0, y0),
                        (64 + (a + 18) * s1, y1),
                        (64 + a * s1, y1),
                    ],
                    (92, 104, 116),
                )
    return Ground(116, 98, False, NEUTRAL, 0.4)
