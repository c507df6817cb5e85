"""What a diffusion pipeline returned, as pictures; a black one, or one that is not finite, is an
error, never stored.

Float16 overflows, most often in an autoencoder, end as NaN, which becomes black in 8 bits; safety
checkers return black pictures too (loaders.py loads none).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .precision import weights_dtype


class BlackPicture(ValueError):
    """A pipeline made a picture that cannot be one; the message names it, its type and the
    remedy."""


def checked_pictures(made: Any, pipe: Any) -> list[np.ndarray]:
    """(H, W, 3) uint8 each, of a pipeline's output: (B, H, W, 3) in 0..1, or PIL images.

    Raises BlackPicture.
    """
    if any(getattr(made, "nsfw_content_detected", None) or ()):
        raise BlackPicture(f"{_name(pipe)}: its safety checker blackened a picture")
    out = []
    for image in made.images:
        if not isinstance(image, np.ndarray):
            out.append(np.asarray(image.convert("RGB")))
        elif not np.isfinite(image).all():
            raise BlackPicture(_words(pipe, "has values that are not finite"))
        else:
            out.append((image * 255).round().astype(np.uint8))
    if not all(picture.any() for picture in out):
        raise BlackPicture(_words(pipe, "is all black"))
    return out


def _name(pipe: Any) -> str:
    return f"{getattr(pipe, 'name_or_path', '') or 'a model'} ({type(pipe).__name__})"


def _words(pipe: Any, what: str) -> str:
    own = str(weights_dtype(pipe)).removeprefix("torch.")
    return (
        f"{_name(pipe)}: a picture that it made {what}; its weights ({own}) overflow or are "
        "damaged: set dtype of its role under models to float32 or bfloat16, or vae to an "
        "autoencoder made for float16, or fetch the weights again"
    )
