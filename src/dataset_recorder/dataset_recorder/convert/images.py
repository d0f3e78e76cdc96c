# SPDX-License-Identifier: Apache-2.0
"""Images of a bag, raw or compressed, as RGB arrays."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hilserl_ros.images import ImageError, image_to_rgb

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def rgb_of(message: Any) -> np.ndarray:
    """(height, width, 3) uint8 RGB of a sensor_msgs Image or CompressedImage (JPEG, PNG).

    Raises ImageError for an encoding that is not supported or data that do not fit it.
    """
    if hasattr(message, "encoding"):
        return image_to_rgb(message)
    try:
        with Image.open(io.BytesIO(message.data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ImageError(f"a compressed image of format '{message.format}' cannot be decoded: {error}") from error
