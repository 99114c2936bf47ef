"""Arrays as PNG pictures: densities as heat maps, samples as a sheet of small images."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness_reports.page.theme import RAMP

__all__ = ["contact_sheet", "heat_map"]

Array = npt.NDArray[np.float64]
_GAP = 1


def heat_map(values: Array, top: float, scale: int = 3) -> bytes:
    """Draws a [rows, columns] array; the first row is at the bottom, as y grows upwards.

    Arguments:
        values: Non-negative.
        top: Value of the brightest colour; larger values are drawn in it.
        scale: Pixels a value.
    """
    levels = np.clip(values[::-1] / top, 0, 1) * 255
    image = Image.fromarray(levels.round().astype(np.uint8)).convert("P")
    image.putpalette(_palette())
    return _png(image, scale)


def contact_sheet(images: Array, columns: int, low: float, high: float, width: int) -> bytes:
    """Lays images out in rows, in grey or colour.

    Arguments:
        images: [n, height, width], or [n, channels, height, width] with 1 or 3 channels.
        columns: Images in a row; an incomplete last row is left out.
        low: Value drawn black.
        high: Value drawn white.
        width: Pixels across, at most; values are drawn as squares of whole pixels.
    """
    if images.ndim == 3:
        images = images[:, None]
    rows = len(images) // columns
    grey = np.clip((images[: rows * columns] - low) / (high - low), 0, 1) * 255
    padded = np.pad(grey, ((0, 0), (0, 0), (0, _GAP), (0, _GAP)), constant_values=255)
    channels, tall, wide = padded.shape[1:]
    sheet = padded.reshape(rows, columns, channels, tall, wide)
    sheet = sheet.transpose(0, 3, 1, 4, 2).reshape(rows * tall, columns * wide, channels)
    pixels = sheet[:-_GAP, :-_GAP].round().astype(np.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    return _png(image, max(1, width // image.width))


def _palette() -> list[int]:
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in RAMP])
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return [int(value) for value in np.stack(channels, 1).round().ravel()]


def _png(image: Image.Image, scale: int) -> bytes:
    size = (image.width * scale, image.height * scale)
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
