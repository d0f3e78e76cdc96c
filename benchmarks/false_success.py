# SPDX-License-Identifier: Apache-2.0
"""How often a demo's reward classifier is wrong about the trained policy: fresh episodes, judged to their end by the truth.

python -m benchmarks.false_success outputs/demo --episodes 334
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.classifier_frames import simulation_rule
from hilserl_actor.schedule import world_seed
from hilserl_core.action import Controller
from hilserl_core.actor import Actor
from hilserl_core.observation import network_image, state_vector
from hilserl_core.step import Mode, Observation
from hilserl_core.task import TaskSpec
from reach_grasp.report.numbers import wilson
from reach_grasp.running.verdicts import Verdict, verdict_numbers
from reach_grasp.task_files import task_of
from reward_classifier_node.artifact import read_artifact
from reward_classifier_node.decision import Gripper, Judge
from so101_sim.world import World

_FIRST = 10_000  # number of the first episode: none that the demo itself was evaluated on
_REST_TICKS = 5  # after the true success, for a classifier that is late


def main() -> int:
    """Print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demos", type=Path, nargs="+", help="Folders of finished demos.")
    parser.add_argument("--episodes", type=int, default=334, help="Of each demo's policy.")
    parser.add_argument("--output", type=Path, default=Path("outputs/false_success.json"))
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for demo in options.demos:
        seed = json.loads((demo / "report.json").read_text())["seed"]
        verdicts = Episodes(demo, seed).run(options.episodes)
        found += [verdict.as_dict() for verdict in verdicts]
        print(f"{demo}: {summary(found[-options.episodes :])}", flush=True)
    print(f"all: {summary(found)}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({"numbers": verdict_numbers(found), "episodes": found}, indent=1))
    return 0


def summary(found: list[dict[str, Any]]) -> str:
    """One line. False is a success that the classifier saw in an episode that had none to its end."""
    grasped = sum(item["true"] is not None for item in found)
    false = sum(item["seen"] is not None and item["true"] is None for item in found)
    missed = sum(item["seen"] is None and item["true"] is not None for item in found)
    delays = sorted(item["seen"] - item["true"] for item in found if None not in (item["seen"], item["true"]))
    low, high = (100 * bound for bound in wilson(false, len(found)))
    return (
        f"{grasped} of {len(found)} grasped; {false} false = {100 * false / len(found):.2f} % (95 %: {low:.2f} to {high:.2f}), "
        f"{missed} missed; delay in frames: {delays[0]} to {delays[-1]}, median {delays[len(delays) // 2]}; "
        f"{sum(item['seen'] is not None and not item['held'] for item in found)} said while nothing was pinched in that frame"
    )


class Episodes:
    """The policy's mean in the demo's simulator, in this process. The classifier only watches."""

    def __init__(self, demo: Path, seed: int) -> None:
        self.task: TaskSpec = task_of(None)
        self.seed, self.world = seed, World(task=self.task)
        self.kinematics = self.world.kinematics
        self.controller = Controller(self.task, self.kinematics)
        self.actor = Actor.from_pretrained((demo / "checkpoints" / "last").resolve(), self.task)
        artifact = read_artifact(demo / "classifier", self.task)
        self.classifier, self.judge = artifact.classifier, Judge(simulation_rule(artifact.threshold))

    def run(self, count: int) -> list[Verdict]:
        """Of so many episodes."""
        return [self._episode(_FIRST + number) for number in range(count)]

    def _episode(self, number: int) -> Verdict:
        world, task, camera = self.world, self.task, self.task.cameras[0]
        world.reset(world_seed(self.seed, Mode.EVALUATION, number))
        self.controller.latch(world.joint_positions)
        self.judge.restart()
        seen = true = None
        held = False
        for frame in range(task.max_ticks + 1):
            image = network_image(world.render(camera, *task.camera_sizes[:2]), camera, task)
            gripper = Gripper(world.joint_positions[-1], world.joint_velocities[-1], world.joint_efforts[-1])
            said = self.judge.judge(float(self.classifier.probabilities(image[None, None])[0]), gripper)
            if seen is None and said:
                seen, held = frame, world.grasp().pinched
            true = frame if true is None and world.success else true
            if true is not None and (seen is not None or frame >= true + _REST_TICKS):
                break
            world.step(self.controller.command(self.actor.act(self._observation(image)), world.joint_positions).joints)
        return Verdict(number, seen, true, held, frame + 1)

    def _observation(self, image: Any) -> Observation:
        names, positions, velocities = self.task.joints, self.world.joint_positions, self.world.joint_velocities
        pose = self.kinematics.forward(positions)
        maps = (dict(zip(names, values.tolist(), strict=True)) for values in (positions, velocities))
        return Observation(0, state_vector(*maps, pose.position, pose.euler, self.task), {self.task.cameras[0]: image})


if __name__ == "__main__":
    sys.exit(main())
