# SPDX-License-Identifier: Apache-2.0
"""python -m benchmarks.classifier_accuracy: train the reward classifier on simulated episodes, judge it on unseen ones."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.classifier_frames import TASK, Episode, FrameMaker, simulation_rule
from reward_classifier_node.calibration import scores
from reward_classifier_node.data import LabelledFrames, split_by_episode
from reward_classifier_node.decision import Gripper, decide
from reward_classifier_node.settings import ClassifierSettings
from reward_classifier_node.training import Trained, train

_TRAINED = 0  # seed of the worlds and of the person


def labelled(episodes: list[Episode]) -> LabelledFrames:
    """One camera; the label is whether the cube is pinched in this frame, as the simulator knows."""
    return LabelledFrames(
        np.concatenate([episode.images for episode in episodes])[:, None],
        np.concatenate([episode.pinched for episode in episodes]),
        np.repeat(np.arange(len(episodes)), [len(episode.images) for episode in episodes]),
    )


def judge(trained: Trained, episodes: list[Episode], settings: ClassifierSettings) -> dict[str, Any]:
    """Against the simulator's truth: images alone, and gated by what the gripper feels; and what the node says, debounced.

    decided: without the frames at the edge of a grasp.
    """
    frames, success = labelled(episodes), np.concatenate([episode.success for episode in episodes])
    probabilities = trained.classifier.probabilities(frames.images)
    rule, grippers = simulation_rule(trained.threshold), np.concatenate([episode.grippers for episode in episodes])
    said = decide(probabilities, rule, frames.episodes, grippers)
    decided = ~frames.undecided(settings.undecided_before, settings.undecided_after)
    gated = probabilities * [rule.gate.holds(Gripper(*map(float, gripper))) for gripper in grippers]
    rows = [frames.episodes == number for number in range(len(episodes))]
    ever_said, ever = (np.array([values[row].any() for row in rows]) for values in (said, success))
    delays = [int(said[row].argmax() - success[row].argmax()) for row, both in zip(rows, ever_said & ever, strict=True) if both]
    return {
        "images": scores(probabilities, frames.labels, trained.threshold).as_dict(),
        "images_decided": scores(probabilities[decided], frames.labels[decided], trained.threshold).as_dict(),
        "gated": scores(gated, frames.labels, trained.threshold).as_dict(),
        "gated_decided": scores(gated[decided], frames.labels[decided], trained.threshold).as_dict(),
        "node_frames": scores(said.astype(float), success, 0.5).as_dict(),
        "node_episodes": scores(ever_said.astype(float), ever, 0.5).as_dict(),
        "delays_frames": delays,
    }


def main() -> None:
    """Print one line per way of counting; everything goes into a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--demonstrations", type=int, default=20, help="Successful demonstrations to train on; failures come on top."
    )
    parser.add_argument("--unseen", type=int, default=100, help="Episodes to judge by.")
    parser.add_argument("--unseen-seed", type=int, default=2_000_000, help="Of their worlds and of the person.")
    parser.add_argument("--trunk-updates", type=int, help="Instead of the configuration's: more data can take more.")
    parser.add_argument("--config", type=Path, default=Path("config/reward_classifier.yaml"))
    parser.add_argument("--output", type=Path, default=Path("outputs/classifier_accuracy.json"))
    options = parser.parse_args()
    settings = ClassifierSettings.from_file(options.config)
    if options.trunk_updates is not None:
        settings = replace(settings, trunk_updates=options.trunk_updates)
    frames = labelled([*FrameMaker(_TRAINED).until(options.demonstrations)])
    unseen = FrameMaker(options.unseen_seed).episodes(options.unseen)
    split = split_by_episode(frames, settings.heldout, settings.seed)
    start, start_cpu = time.monotonic(), time.process_time()
    both = dict(zip(("ours", "head_only"), train(frames, split, settings, TASK), strict=True))
    facts = {
        "train_seconds": time.monotonic() - start,
        "train_cpu_seconds": time.process_time() - start_cpu,
        "frames": len(frames),
    }
    print(
        f"trained in {facts['train_seconds']:.0f} s, {facts['train_cpu_seconds']:.0f} s of processor, on {len(frames)} frames"
    )
    for side, trained in both.items():
        result = judge(trained, unseen, settings)
        facts[side] = {"threshold": trained.threshold, "heldout": trained.heldout.as_dict(), **result}
        for name, numbers in facts[side].items():
            if isinstance(numbers, dict):
                shown = "  ".join(f"{key} {100 * numbers[key]:.2f} %" for key in ("accuracy", "precision", "recall"))
                print(f"{side:<10}{name:<16}{shown}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
