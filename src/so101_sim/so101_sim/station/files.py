# SPDX-License-Identifier: Apache-2.0
"""Files in the twin's folder: parameters for the nodes, the table of device names, the state of its servos, its report."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from so101_description import JOINTS
from so101_sim.bus.memory import SRAM
from so101_sim.station.settings import StationError, StationSettings

ARMS = ("follower", "leader")
STATION, DEVICES, REPORT, SERVOS = "station.yaml", "devices.json", "twin.json", "servos.json"


def write_file(path: Path, text: str) -> None:
    """Replace a file; a kill at any instant leaves the old one or the new one. Raises StationError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise StationError(f"{path} cannot be written: {error.strerror or error}; choose another --folder") from error


def station_parameters(
    folder: Path, addresses: Mapping[str, str], settings: StationSettings, names: tuple[str, str]
) -> dict[str, Any]:
    """Parameters of the real station's nodes. addresses: camera -> its stream. names: calibrations of follower and leader."""
    nodes: dict[str, dict[str, Any]] = {
        "follower": {"port": str(folder / "follower"), "calibration": names[0]},
        "leader": {"port": str(folder / "leader"), "calibration": names[1]},
        "keyboard": {"device": str(folder / "keys")},
        # joint_states while the gripper holds the cube: not closed farther than the cube is wide, pressing, at rest. A grip
        # that the driver has eased after a second presses with 0.17 to 0.27.
        "reward_classifier": {"gate": True, "gate_min_rad": 0.08, "gate_min_effort": 0.14, "gate_max_speed": 0.12},
    }
    for camera, found in settings.cameras().items():
        nodes[f"{camera}_camera"] = {
            "source": addresses[camera], "fps": found.fps, "width": found.width, "height": found.height,
        }  # fmt: skip
    return {f"/**/{name}": {"ros__parameters": values} for name, values in nodes.items()}


def device_names(folder: Path, addresses: Mapping[str, str]) -> dict[str, str]:
    """Table of devices: name in the documentation -> its replacement at this twin."""
    return {
        "/dev/ttyACM0": str(folder / "follower"),
        "/dev/ttyACM1": str(folder / "leader"),
        "/dev/v4l/by-id/usb-YOUR_CAMERA-video-index0": addresses["wrist"],
        "/dev/video0": addresses["wrist"],
        "/dev/video2": addresses["front"],
        "/dev/input/by-id/usb-YOUR_KEYBOARD-event-kbd": str(folder / "keys"),
    }


def write_station(
    folder: Path, addresses: Mapping[str, str], settings: StationSettings, names: tuple[str, str]
) -> dict[str, str]:
    """Write `station.yaml` and `devices.json`; return the table in `devices.json`. Raises StationError."""
    head = "# Written by reach-grasp emulate-station for this run of the twin; the next one may have other addresses.\n"
    parameters = station_parameters(folder, addresses, settings, names)
    write_file(folder / STATION, head + json.dumps(parameters, indent=2) + "\n")  # JSON is YAML
    devices = device_names(folder, addresses)
    write_file(folder / DEVICES, json.dumps(devices, indent=2) + "\n")
    return devices


def read_servos(folder: Path, seed: int) -> dict[str, list[bytes]]:
    """Read what the servos of each arm kept without power, arm -> one per servo; empty where no twin of this seed was here.

    A twin of another seed has other servos. Raises StationError for a damaged file.
    """
    path = folder / SERVOS
    try:
        kept = json.loads(path.read_text())
        if kept["seed"] != seed:
            return {}
        arms = {arm: [bytes.fromhex(text) for text in texts] for arm, texts in kept["arms"].items()}
        if set(arms) != set(ARMS) or any([*map(len, servos)] != [SRAM] * len(JOINTS) for servos in arms.values()):
            raise ValueError(f"expected {len(JOINTS)} servos of {SRAM} bytes of each of {' and '.join(ARMS)}")
        return arms
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StationError(f"{path} cannot be read: {error}; remove it, and calibrate the arms again") from error


def write_servos(folder: Path, seed: int, arms: Mapping[str, list[bytes]]) -> None:
    """Write what the servos of each arm keep without power. Raises StationError."""
    texts = {arm: [data.hex() for data in servos] for arm, servos in arms.items()}
    write_file(folder / SERVOS, json.dumps({"seed": seed, "arms": texts}, indent=1) + "\n")
