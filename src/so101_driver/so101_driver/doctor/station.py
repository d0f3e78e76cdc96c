# SPDX-License-Identifier: Apache-2.0
"""Everything there is to look at, one finding after another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from so101_driver.doctor.arm import examine_arm
from so101_driver.doctor.cameras import examine_cameras
from so101_driver.doctor.finding import Finding
from so101_driver.doctor.machine import examine_machine
from so101_driver.doctor.network import examine_network


@dataclass(frozen=True)
class Station:
    """What belongs to it. ports, names: by the kind of arm. learner: its host, empty if unknown, None if none is needed."""

    ports: Mapping[str, str]
    names: Mapping[str, str]
    cameras: Sequence[str] = ()
    learner: str | None = None
    namespace: str = ""
    folder: Path = field(default_factory=Path.cwd)

    def examine(self) -> Iterator[Finding]:
        """The findings as they come."""
        for kind, port in self.ports.items():
            yield from examine_arm(kind, port, self.names[kind])
        yield from examine_cameras(self.cameras)
        yield from examine_machine(self.folder)
        yield from examine_network(os.environ.get("ROS_DOMAIN_ID") or "0", self.namespace, self.learner)
