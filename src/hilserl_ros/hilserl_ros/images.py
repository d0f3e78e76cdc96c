# SPDX-License-Identifier: Apache-2.0
"""Image messages to RGB arrays and back: the one function that knows encodings."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image

# Channels of each encoding, and the channel order that makes RGB.
_ENCODINGS: dict[str, tuple[int, tuple[int, int, int]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}


class ImageError(ValueError):
    """An image message whose encoding, size and data do not belong together."""


def image_to_rgb(message: Image) -> np.ndarray:
    """The pixels as (height, width, 3) uint8 RGB; a view of the message where it is rgb8 without padding.

    Raises ImageError for an unknown encoding, or data that is not height x step bytes long.
    """
    if message.encoding not in _ENCODINGS:
        raise ImageError(f"image encoding '{message.encoding}' is not supported, allowed: {', '.join(_ENCODINGS)}")
    channels, order = _ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0 or step < width * channels or len(message.data) != height * step:
        raise ImageError(f"image {width}x{height} {message.encoding} with step {step} holds {len(message.data)} bytes")
    rows = np.frombuffer(message.data, np.uint8).reshape(height, step)
    pixels = rows[:, : width * channels].reshape(height, width, channels)
    return pixels if order == (0, 1, 2) and channels == 3 else pixels[:, :, order]


def rgb_to_image(pixels: np.ndarray, stamp: Time | None = None, frame_id: str = "") -> Image:
    """An rgb8 message of (height, width, 3) uint8 pixels."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (height, width, 3)")
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=3 * pixels.shape[1])
    message.header.frame_id = frame_id
    if stamp is not None:
        message.header.stamp = stamp
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels))  # without a copy in between, which costs a millisecond at 640x480
    message.data = data
    return message
