# SPDX-License-Identifier: Apache-2.0
"""reach-grasp doctor: looks over the station and says what to mend."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from reach_grasp.values import namespace

_KINDS = ("follower", "leader")
_CAMERAS = "Numbers, devices, addresses of streams or video files, such as 0, /dev/video2 or http://127.0.0.1:8080/wrist."


class Doctor:
    """The verb."""

    name = "doctor"
    text = "Look over the station: arms, cameras, this machine, the network. Nothing is moved or changed; 1 on a problem."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        for kind in _KINDS:
            add(f"--{kind}-port", default="", metavar="PORT", help=f"Serial port of the {kind}, such as /dev/ttyACM0.")
            add(f"--{kind}-id", default=kind, metavar="NAME", help=f"Name of its calibration. Default: {kind}.")
        add("--cameras", nargs="+", default=[], metavar="CAMERA", help=_CAMERAS)
        add("--learner", nargs="?", const="", metavar="HOST", help="A learner must be there; HOST: on this machine.")
        add("--namespace", type=namespace, default="", help="That of the nodes.")
        add("--json", action="store_true", help="Print the findings as JSON.")

    def run(self, options: argparse.Namespace) -> int:
        """Print a line for each finding; 1 when one is a problem."""
        from so101_driver.doctor.finding import Level
        from so101_driver.doctor.station import Station

        ports, names = ({kind: getattr(options, f"{kind}_{what}") for kind in _KINDS} for what in ("port", "id"))
        findings = []
        for finding in Station(ports, names, options.cameras, options.learner, options.namespace).examine():
            findings.append(finding)
            if not options.json:
                cure = f"; {finding.cure}" if finding.cure else ""
                print(f"{finding.level:<8} {finding.check}: {finding.text}{cure}", flush=True)
        if options.json:
            print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return 1 if any(finding.level == Level.PROBLEM for finding in findings) else 0
