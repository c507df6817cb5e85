"""VariReal's generator between its models, written out plainly from docs/protocol.md, C1.

Independent of varireal_utils. Pictures are (H, W, 3) uint8 RGB, masks (H, W) uint8 0 | 255; 8-bit
values are rounded, where the original cuts them off (C4.14).
"""

import cv2
import numpy as np

SIDE = 1024


def inner(height, width):
    """Size of a photograph on the canvas: the longest side fills it, the other is cut to an int."""
    if width > height:
        return int(SIDE / (width / height)), SIDE
    return SIDE, int(SIDE * (width / height))


def canvas(image):
    """Longest side to 1024 by OpenCV's Lanczos, black to the right and below."""
    h, w = inner(*image.shape[:2])
    out = np.zeros((SIDE, SIDE, *image.shape[2:]), np.uint8)
    out[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LANCZOS4)
    return out


def binary(mask):
    """A mask is cut at 128."""
    return np.where(mask < 128, 0, 255).astype(np.uint8)


def back(picture, height, width):
    """The inverse of the canvas."""
    h, w = inner(height, width)
    own = np.ascontiguousarray(picture[:h, :w])
    return cv2.resize(own, (width, height), interpolation=cv2.INTER_LANCZOS4)


def composed(photograph, edited, changed):
    """A hard seam: `edited` where `changed` is 255."""
    out = photograph.copy()
    out[changed == 255] = edited[changed == 255]
    return out


def canny(image, mask):
    """Canny of the object over white, RGB read as BGR; the median is of the whole blurred picture,
    all channels together."""
    white = np.full_like(image, 255)
    white[mask == 255] = image[mask == 255]
    middle = np.median(cv2.blur(white, (5, 5)).ravel())
    return cv2.Canny(white[:, :, ::-1].copy(), int(0.7 * middle), 255)


def grown(mask, width):
    """Maximum over a width x width window, whose centre is its pixel number width // 2."""
    on, first = (mask > 0).astype(np.int64), width // 2
    padded = np.pad(on, ((first, width - 1 - first),) * 2)
    total = np.pad(padded.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    window = total[width:, width:] - total[:-width, width:] - total[width:, :-width]
    return (window + total[:-width, :-width] > 0) * np.uint8(255)


def background_start(image, mask, scene, width):
    """The object and what is near it, on a drawn scene of the canvas's size."""
    return np.where(grown(mask, width)[..., None] > 0, image, scene)


def background_mask(mask):
    """What is painted: all but the object, blurred by 41 x 41 and, by diffusers, cut at a half."""
    soft = cv2.GaussianBlur(255.0 - mask, (41, 41), 0).astype(np.float32) / 255
    return np.where(soft >= 0.5, 255, 0).astype(np.uint8)


def blended(image, mask, new, alpha):
    """(1 - alpha) photograph + alpha new on the object."""
    out = image.copy()
    old, new = image[mask == 255].astype(float), np.broadcast_to(new, image.shape)[mask == 255]
    out[mask == 255] = np.round(old * (1 - alpha) + new.astype(float) * alpha).astype(np.uint8)
    return out


def surface(drawn, left, top):
    """256 x 256 of a drawn surface, four times as large by cubic interpolation, sharpened."""
    part = np.ascontiguousarray(drawn[top : top + 256, left : left + 256])
    large = cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    around = np.pad(large.astype(int), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    beside = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
    return np.clip(5 * around[1:-1, 1:-1] - beside, 0, 255).astype(np.uint8)


def look(painted, mask):
    """What the IP-Adapter sees: the object of the first stage on grey."""
    out = np.full_like(painted, 100)
    out[mask == 255] = painted[mask == 255]
    return out
