# SPDX-License-Identifier: Apache-2.0
"""reach-grasp eval: run the evaluation system to its end and say how it went."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reach_grasp.errors import CommandError
from reach_grasp.systems import SYSTEMS
from reach_grasp.values import reason
from reach_grasp.verbs.system import ShowSystem

if TYPE_CHECKING:
    from hilserl_interfaces.msg import EpisodeStatus
    from reach_grasp.running.display import Snapshot
    from reach_grasp.running.episodes import Episode
    from reach_grasp.running.monitor import Monitor

_CURE = "say success or failure by key when one ends (--events keyboard or gamepad), or name a --classifier"


class Evaluate(ShowSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp eval.launch.py`, which go on until they are stopped."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["eval"])

    def run(self, options: argparse.Namespace) -> int:
        """Evaluate, print the result and write it to evaluation.json in the run's folder."""
        from reach_grasp.report.numbers import evaluation_numbers
        from reach_grasp.running.folder import replace_text
        from reach_grasp.running.monitor import check_running
        from reach_grasp.running.scene import STARTING, Scene

        given = self.given(options)
        folder, count = Path(given["run"]).expanduser(), int(given["episodes"])
        _check_checkpoint(Path(given["checkpoint"]).expanduser())
        log, kept_in, broken = folder / "evaluation.log", folder / "evaluation.json", []
        episodes: list[Episode] = []

        scene = Scene(f"reach-grasp eval  {given['checkpoint']}", (STARTING, "evaluation"), log, self.ticks(given))

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot | None:
            episodes.extend(monitor.finished())
            if len(episodes) >= count or _stopped(monitor.episode, len(episodes)):
                return None
            try:
                check_running(process, monitor, log)
            except CommandError as error:
                episodes.extend(monitor.finished())
                if monitor.episode is None:
                    raise  # nothing has begun: a node refused
                broken.append(f"the evaluation ended early: {error}")
                return None
            if monitor.episode is None:
                return scene.snapshot(monitor, STARTING, "the nodes", 0.0)
            successes, unjudged = sum(e.success for e in episodes), sum(not e.judged for e in episodes)
            detail = f"{len(episodes)} of {count} episodes, {successes} successes" + (
                f", {unjudged} unjudged" if unjudged else ""
            )
            return scene.snapshot(monitor, "evaluation", detail, len(episodes) / count)

        def write() -> dict[str, Any]:
            numbers = evaluation_numbers([episode.as_dict() for episode in episodes])
            result = {**numbers, "checkpoint": given["checkpoint"], "seed": int(given["seed"]), "wanted": count}
            try:
                replace_text(kept_in, json.dumps(result | {"episode": [e.as_dict() for e in episodes]}, indent=1))
            except OSError as error:
                broken.append(f"{kept_in} cannot be written: {reason(error)}; note what follows, nothing keeps it")
            return numbers

        def kept(monitor: Monitor) -> str:
            episodes.extend(monitor.finished())
            if not episodes:
                return "no episode has ended"
            numbers = write()
            place = "; ".join(broken) or f"they are kept in {kept_in}"
            so_far = f"; {_rate(numbers)}" if numbers["judged"] else ""
            return f"after {len(episodes)} of {count} episodes{so_far}; {place}; the same command evaluates anew"

        self.follow(options, given, log, look, kept)
        numbers = write()
        for why in broken:
            print(why)
        if len(episodes) < count:
            print(f"stopped after {len(episodes)} of {count} episodes")
        if not numbers["judged"]:
            print(f"no result: nobody judged any of the {len(episodes)} episodes" + ("" if broken else f"; {_CURE}"))
            return 1
        if numbers["unjudged"]:
            print(f"{numbers['unjudged']} of {len(episodes)} episodes were judged by nobody, and count neither way")
        print(_rate(numbers))
        return 0 if len(episodes) == count and not broken else 1


def _rate(numbers: Mapping[str, Any]) -> str:
    """Successes among the judged episodes, with the interval in which the rate lies."""
    from reach_grasp.report.page import percent

    interval = f"{percent(numbers['success_low'])} to {percent(numbers['success_high'])}"
    return f"{numbers['successes']} of {numbers['judged']} = {percent(numbers['success_rate'])} (95 %: {interval})"


def _stopped(status: EpisodeStatus | None, heard: int) -> bool:
    """Whether the actor has ended early, and the results of all its finished episodes were heard."""
    return status is not None and status.phase == status.DONE and heard >= status.episodes_done


def _check_checkpoint(folder: Path) -> None:
    """Raise CommandError for a folder that holds no policy; one that is not there is refused with the other arguments."""
    if not folder.is_dir() or any((folder / name).is_file() for name in ("pretrained_model/config.json", "config.json")):
        return
    inside = folder / "checkpoints" / "last"
    name = inside if inside.is_dir() else "one such as outputs/train/checkpoints/last"
    raise CommandError(f"{folder} is no checkpoint, it holds no pretrained_model: name {name}")
