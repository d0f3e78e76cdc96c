# SPDX-License-Identifier: Apache-2.0
"""reach-grasp replay: what a reward classifier's node says of recorded bags, beside their labels."""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reach_grasp.errors import CommandError
from reach_grasp.systems import SYSTEMS
from reach_grasp.verbs.system import ShowSystem

if TYPE_CHECKING:
    from dataset_recorder.comparison import Frame
    from reach_grasp.running.monitor import Monitor


class Replay(ShowSystem):
    """The verb. Its nodes are those of `ros2 launch reach_grasp replay.launch.py`."""

    def __init__(self) -> None:
        super().__init__(SYSTEMS["replay"])

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Bags may be named without an option."""
        parser.add_argument("bags", type=Path, nargs="*", metavar="BAG", help="rosbag2 folders, or folders that hold some.")
        super().add_arguments(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Play the bags, write what is said of their frames, and print how that compares with the labels."""
        from dataset_recorder.comparison import read_frames
        from reach_grasp.process import check_alive
        from reach_grasp.running.display import Snapshot

        given = self.given(options)
        bags = _found([*options.bags, *(Path(bag) for bag in given["bag"].split(":") if bag)])
        output = Path(given["output"]).expanduser()
        log = output.with_suffix(".log")

        def look(process: subprocess.Popen[bytes], monitor: Monitor) -> Snapshot | None:
            if process.poll() == 0:
                return None
            check_alive(process, log)
            values = {key: int(value) for key, value in monitor.diagnostics.get("player: replay", {}).items()}
            if not values:
                return Snapshot("replay", "starting the nodes")
            detail = "{bag} of {bags} bags, frame {frame} of {frames}".format(**values)
            problems = tuple(monitor.problems(time.monotonic()))
            share = values["frame"] / max(values["frames"], 1)
            return Snapshot("replay", detail, share, problems=problems, title="reach-grasp replay", log=str(log))

        self.follow(options, {**given, "bag": ":".join(map(str, bags))}, log, look)
        print(_table(read_frames(output)))
        print(f"frame by frame: {output}")
        return 0


def _found(named: Sequence[Path]) -> list[Path]:
    """Bags that can be opened. Raises CommandError."""
    from dataset_recorder.convert.bag import Bag, find_bags
    from dataset_recorder.convert.errors import BagError

    if not named:
        raise CommandError("replay needs a bag: reach-grasp replay BAG... --classifier FOLDER")
    try:
        bags = find_bags([path.expanduser() for path in named])
        for path in bags:
            with Bag(path):
                pass
    except BagError as error:
        raise CommandError(str(error)) from error
    return bags


def _table(said: Mapping[str, Sequence[Frame]]) -> str:
    """A line for each bag, and one for all of them."""
    from dataset_recorder.comparison import compare

    found = {"/".join(Path(bag).parts[-2:]): compare(frames) for bag, frames in said.items()}
    width = max(map(len, ["bag", *found]))
    lines = [f"{'bag':<{width}}  frames  judged  success  labelled  agreement  false  missed  first success  labels"]
    for name, counts in found.items():
        agreement = f"{100 * counts.agreeing / counts.compared:.1f} %" if counts.compared else "-"
        first = f"{counts.delay:+d} frames" if counts.delay is not None else "-"
        lines.append(
            f"{name:<{width}}  {counts.frames:>6}  {counts.judged:>6}  {counts.successes:>7}  {counts.label_successes:>8}  "
            f"{agreement:>9}  {counts.false_successes:>5}  {counts.missed_successes:>6}  {first:>13}  {counts.source or 'none'}"
        )
    compared, agreeing = (sum(getattr(counts, name) for counts in found.values()) for name in ("compared", "agreeing"))
    if compared and len(found) > 1:
        lines.append(f"{agreeing} of {compared} frames as labelled: {100 * agreeing / compared:.1f} %")
    return "\n".join(lines)
