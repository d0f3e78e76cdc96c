# SPDX-License-Identifier: Apache-2.0
"""Random shifts of images: into stored variants as uint8, and fused with normalisation for batches of pixels."""

from __future__ import annotations

import logging

import numba
import numpy as np

from hilserl_core.normalization import IMAGE_MEAN, IMAGE_STD


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move the contents of images (..., H, W, C) by pixels, repeating the border; a view when nothing moves."""
    for axis, by in ((-3, down), (-2, right)):
        if by:
            edge = np.take(image, [0 if by > 0 else -1], axis)
            image = np.roll(image, by, axis)
            np.moveaxis(image, axis, 0)[slice(0, by) if by > 0 else slice(by, None)] = np.moveaxis(edge, axis, 0)
    return image


def shifted_normalized(frames: np.ndarray, slots: np.ndarray, shifts: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
    """Gather, shift and normalise frames in one pass.

    frames: (N, cameras, H, W, 3) uint8. slots: (B,) which to take. shifts: (B, cameras, 2) int, pixels down and right;
    borders repeat. out: (R, cameras, H, W, 3) float32, of which rows (B,) become (frame / 255 - mean) / std.
    """
    width = frames.shape[3]
    scale = np.tile(1 / (255 * np.array(IMAGE_STD)), width).astype(np.float32)
    offset = np.tile(-np.array(IMAGE_MEAN) / np.array(IMAGE_STD), width).astype(np.float32)
    _gather(frames, slots.astype(np.int64), shifts.astype(np.int64), scale, offset, out, rows.astype(np.int64))


def _gather_rows(frames, slots, shifts, scale, offset, out, rows):  # compiled below
    cameras, height, width = frames.shape[1:4]
    for item in numba.prange(len(slots) * cameras):
        index, camera = item // cameras, item % cameras
        image = frames[slots[index], camera]
        result = out[rows[index], camera]
        down, right = shifts[index, camera, 0], shifts[index, camera, 1]
        first, last = max(0, right), min(width, width + right)  # columns that do not repeat the border
        for row in range(height):
            source = image[min(max(row - down, 0), height - 1)].reshape(-1)
            target = result[row].reshape(-1)
            for column in range(first):
                for channel in range(3):
                    target[3 * column + channel] = source[channel] * scale[channel] + offset[channel]
            inside, moved = target[3 * first : 3 * last], source[3 * (first - right) : 3 * (last - right)]
            for place in range(len(inside)):  # slices and a range from 0, so that this becomes SIMD code
                inside[place] = moved[place] * scale[place] + offset[place]
            for column in range(last, width):
                for channel in range(3):
                    target[3 * column + channel] = source[3 * width - 3 + channel] * scale[channel] + offset[channel]


def _compile():
    options = {"parallel": True, "fastmath": {"contract"}, "nogil": True}
    try:
        return numba.njit(_gather_rows, cache=True, **options)
    except RuntimeError as error:  # no folder for the cache can be written
        logging.getLogger(__name__).info("compiled code is not kept between runs: %s", error)
        return numba.njit(_gather_rows, **options)


_gather = _compile()
