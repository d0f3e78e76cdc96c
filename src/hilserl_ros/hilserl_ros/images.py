# SPDX-License-Identifier: Apache-2.0
"""Image messages to RGB arrays and back: the one module that knows encodings. Names and pixels are cv_bridge's."""

from __future__ import annotations

import array
from typing import NamedTuple

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import Image

DISTANCES = ("16UC1", "32FC1")
"""Encodings of depth images (REP 118): millimetres, metres. They hold no colours."""


class _Layout(NamedTuple):
    """How pixels lie in memory: their type and channels, and the OpenCV conversion that makes them RGB."""

    kind: np.dtype
    channels: int
    to_rgb: int | None


# Each of 8 and of 16 bits. OpenCV names a Bayer pattern by its second row from the second pixel on, ROS by its first two rows.
_COLOURS = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg": (1, cv2.COLOR_BayerGB2RGB),
}
# Of 8 bits; two pixels share their colour. yuv422 is the old name of uyvy, and yuv422_yuy2 that of yuyv.
_SHARED = {
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}
_LAYOUTS = {f"{name}{8 * size}": _Layout(np.dtype(f"u{size}"), *item) for size in (1, 2) for name, item in _COLOURS.items()}
_LAYOUTS |= {name: _Layout(np.dtype("u1"), 2, code) for name, code in _SHARED.items()}


class ImageError(ValueError):
    """An image message whose encoding, size and data do not belong together, or that holds no colours."""


def image_to_rgb(message: Image) -> np.ndarray:
    """The pixels as (height, width, 3) uint8 RGB; a view of the message where it is rgb8 without padding.

    Raises ImageError for an unknown encoding, for distances, or data that is not height x step bytes long.
    """
    kind, channels, _ = _layout(message.encoding)
    height, width, step = message.height, message.width, message.step
    used = width * channels * kind.itemsize
    if height == 0 or width == 0 or step < used or len(message.data) != height * step:
        raise ImageError(f"image {width}x{height} {message.encoding} with step {step} holds {len(message.data)} bytes")
    rows = np.ascontiguousarray(np.frombuffer(message.data, np.uint8).reshape(height, step)[:, :used])
    values = rows.view(kind.newbyteorder(">" if message.is_bigendian else "<")).astype(kind, copy=False)
    return pixels_to_rgb(values.reshape(height, width, channels), message.encoding)


def pixels_to_rgb(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """(height, width, 3) uint8 RGB of (height, width, channels) or (height, width) pixels in an encoding.

    16 bits become 8 by the nearest of 256 steps. Raises ImageError.
    """
    kind, channels, to_rgb = _layout(encoding)
    height, width = pixels.shape[:2]
    if pixels.dtype != kind or pixels.size != height * width * channels:
        raise ImageError(f"pixels are {pixels.dtype} {pixels.shape}, which is not {encoding}")
    if encoding in _SHARED and width % 2:
        raise ImageError(f"image {width}x{height} {encoding} has an odd width, but two pixels share their colour")
    pixels = pixels.reshape(height, width, channels)
    if to_rgb is not None:
        pixels = cv2.cvtColor(pixels, to_rgb)
    return pixels if kind.itemsize == 1 else cv2.convertScaleAbs(pixels, alpha=255 / 65535)


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


def _layout(encoding: str) -> _Layout:
    if encoding in DISTANCES:
        raise ImageError(f"image encoding '{encoding}' holds distances and no colours")
    if encoding not in _LAYOUTS:
        raise ImageError(f"image encoding '{encoding}' is not supported, allowed: {', '.join(_LAYOUTS)}")
    return _LAYOUTS[encoding]
