# SPDX-License-Identifier: Apache-2.0
"""camera_info from the YAML file that ROS's camera_calibration writes, or of a camera that nobody has calibrated."""

from __future__ import annotations

from pathlib import Path

import yaml
from sensor_msgs.msg import CameraInfo

from so101_driver.errors import CameraInfoError

_MATRICES = {"k": ("camera_matrix", 9), "r": ("rectification_matrix", 9), "p": ("projection_matrix", 12)}


def uncalibrated(size: tuple[int, int]) -> CameraInfo:
    """Size (width, height) and no distortion; k, r and p are zero, which says that nothing else is known."""
    return CameraInfo(width=size[0], height=size[1], distortion_model="plumb_bob", d=[0.0] * 5)


def read_camera_info(path: Path, size: tuple[int, int]) -> CameraInfo:
    """The calibration in a file. Raises CameraInfoError when it cannot be read or was made for another size (width, height)."""
    try:
        content = yaml.safe_load(path.read_text())
        found = int(content["image_width"]), int(content["image_height"])
        message = CameraInfo(width=found[0], height=found[1], distortion_model=str(content["distortion_model"]))
        message.d = [float(value) for value in content["distortion_coefficients"]["data"]]
        for name, (key, length) in _MATRICES.items():
            values = [float(value) for value in content[key]["data"]]
            if len(values) != length:
                raise CameraInfoError(f"{path}: {key} has {len(values)} values, expected {length}; calibrate again")
            setattr(message, name, values)
    except OSError as error:
        raise CameraInfoError(f"the camera_info file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else "is no camera_info file"
        raise CameraInfoError(f"{path} {what}; give a file that camera_calibration wrote") from error
    if found != size:
        raise CameraInfoError(
            f"{path} was made for {found[0]}x{found[1]}, the camera has {size[0]}x{size[1]}; calibrate at that size"
        )
    return message
