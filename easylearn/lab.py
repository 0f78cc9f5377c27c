"""The Lab space of colours: what it is made of, and a and b of it laid upon an image's light, by NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
WHITE = (0.95047, 1.0, 1.08883)  # D65
EDGE = 6 / 29
_LINEAR = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255])


def coloured(image: npt.NDArray[np.uint8], ab: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """An image (h, w, 3) with the light that it has, and the colours a and b of CIE Lab, (2, h, w).

    Colours that a screen cannot show become the nearest ones.

    >>> coloured(np.full((1, 1, 3), 127, np.uint8), np.array([30.0, 20.0]).reshape(2, 1, 1))
    array([[[184, 106,  94]]], dtype=uint8)
    """
    y = _LINEAR.astype(np.float32)[image] @ np.array(XYZ[1], np.float32)  # the white's is 1
    y = np.where(y > EDGE**3, np.cbrt(y), y / (3 * EDGE**2) + 4 / 29)
    f = np.stack([y + ab[0] / 500, y, y - ab[1] / 200], -1)
    xyz = np.where(f > EDGE, f**3, 3 * EDGE**2 * (f - 4 / 29)).astype(np.float32)
    back = np.linalg.inv(np.array(XYZ) / np.array(WHITE)[:, None]).astype(np.float32)
    linear = (xyz @ back.T).clip(0)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: npt.NDArray[np.uint8] = np.rint(rgb.clip(0, 1) * 255).astype(np.uint8)
    return found
