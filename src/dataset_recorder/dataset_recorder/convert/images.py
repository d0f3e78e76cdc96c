# SPDX-License-Identifier: Apache-2.0
"""Images of a bag, raw or compressed, as RGB arrays."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from hilserl_ros.images import DISTANCES, ImageError, image_to_rgb, pixels_to_rgb

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_PNG_BITS = 24  # where a PNG file says how many bits a channel has


def rgb_of(message: Any) -> np.ndarray:
    """(height, width, 3) uint8 RGB of a sensor_msgs Image or CompressedImage (JPEG, PNG).

    Raises ImageError for an encoding that is not supported, for distances, or data that do not fit.
    """
    return image_to_rgb(message) if hasattr(message, "encoding") else _decoded(message)


def _decoded(message: Any) -> np.ndarray:
    """RGB of a CompressedImage. Its format is image_transport's (`bayer_rggb8; jpeg compressed mono8`) or a plain `png`."""
    what = f"a compressed image of format '{message.format}'"
    camera, semicolon, how = message.format.partition(";")
    if camera.strip() in DISTANCES or "compressedDepth" in message.format:
        raise ImageError(f"{what} holds distances and no colours")
    try:
        with Image.open(io.BytesIO(message.data)) as image:
            image.load()  # also says where a file is cut short
    except (UnidentifiedImageError, OSError) as error:
        raise ImageError(f"{what} cannot be decoded: {error}") from error
    if semicolon and image.mode in ("L", "I;16"):
        return pixels_to_rgb(np.asarray(image), how.rpartition("compressed")[2].strip() or camera.strip())
    if image.mode.startswith(("I", "F")):
        raise ImageError(f"{what} holds one channel of more than 8 bits, which may be distances; grey says mono16")
    if image.format == "PNG" and message.data[_PNG_BITS] == 16:
        pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED)
        return pixels_to_rgb(pixels, {3: "bgr16", 4: "bgra16"}[pixels.shape[2]])
    return np.asarray(image.convert("RGB"))
