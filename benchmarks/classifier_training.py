# SPDX-License-Identifier: Apache-2.0
"""Training the reward classifier from a dataset on disk: ours keeps the frozen image model's features, LeRobot's does not."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from lerobot.datasets import LeRobotDataset
from lerobot.rewards import make_reward_model, make_reward_pre_post_processors
from lerobot.scripts.lerobot_train import update_policy
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from lerobot.utils.utils import cycle

from benchmarks import lerobot_side
from benchmarks.problem import DEMO_TASK
from benchmarks.registry import Options
from benchmarks.rows import Row
from dataset_recorder.convert import conversion
from dataset_recorder.testing import bags
from reward_classifier_node.api import train_from_dataset
from reward_classifier_node.model import Shape, lerobot_config
from reward_classifier_node.settings import ClassifierSettings

_EPISODES, _TICKS, _SUCCESS = 16, 60, 40  # of each episode: actions, and the first that is a success
_TOTAL, _UPDATE = "classifier_training", "classifier_training_update"
_ABOVE = "above the image model"
_WORKERS = 2  # of LeRobot's data loader


def run(options: Options) -> Iterator[Row]:
    """The rows of this group, from one training of each side."""
    if not any(map(options.wanted, (_TOTAL, _UPDATE))):
        return
    updates = 100 if options.quick else ClassifierSettings().updates
    measured = 5 if options.quick else 30  # of LeRobot's, which all take the same time
    dataset, trunk = _dataset(options.scratch), lerobot_side.local_resnet10(options.scratch)
    settings = ClassifierSettings(backbone=str(trunk), updates=updates, patience=updates)
    ours = _ours(dataset, options.scratch / "ours", settings)
    loading_s, update_s = _lerobot(dataset, trunk, settings, measured)
    frames, their_update_s = _EPISODES * _TICKS, (loading_s + update_s) / measured
    conditions = {
        "frames": frames, "updates": updates, "batch": settings.batch_size, "variants": settings.variants,
        "ours_by_stage_s": ours.stages_s, "lerobot_updates_measured": measured,
        "lerobot_loading_ms": 1e3 * loading_s / measured, "lerobot_model_ms": 1e3 * update_s / measured,
    }  # fmt: skip
    same = f"The same {frames} frames of a dataset with H.264 videos, one camera 128x128, a frozen ResNet-10, batches of "
    same += f"{settings.batch_size}."
    rows = [
        Row(
            name=_TOTAL,
            ours=ours.seconds,
            lerobot=updates * their_update_s,
            unit="s",
            note=f"{same} {updates} updates. Ours is the whole of train-classifier: decoding, features of each frame and, for "
            "training, of two augmented variants, updates of all above the image model, held-out losses, calibration, report, "
            "and, for comparison, as many updates of the head alone. LeRobot's is computed: so many times an update of "
            f"{_UPDATE}; it has no variants, and only its head learns.",
            conditions=conditions,
        ),
        Row(
            name=_UPDATE,
            ours=1e3 * ours.update_s,
            lerobot=1e3 * their_update_s,
            unit="ms/update",
            note=f"{same} One more update, once training runs. Ours takes kept features and trains all above the image model, "
            "held-out losses included. The loop of lerobot-train decodes the batch's frames, runs the image model on them "
            f"and trains its head; mean of {measured}, its workers started before.",
            conditions=conditions,
        ),
    ]
    yield from (row for row in rows if options.wanted(row.name))


def _dataset(scratch: Path) -> Path:
    """As `reach-grasp convert` writes it; a reward says what the image of its own row shows."""
    steps = []
    for number in range(_EPISODES):
        episode = bags.episode(_TICKS, number, 1 + number * (_TICKS + 1), side=(128, 128), cameras=("wrist",))
        for index, step in enumerate(episode):
            step.reward = float(index >= _SUCCESS and number % 4 != 3)
        steps += episode
    conversion.convert([bags.write_steps(scratch / "bag", steps)], conversion.Options(scratch / "set"))
    return scratch / "set"


@dataclass
class _Ours:
    """seconds: all of it. stages_s: from the first to the last news of a stage. done: updates, or frames, of each."""

    seconds: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    @property
    def update_s(self) -> float:
        """Seconds of one update of all above the image model, held-out losses included."""
        return self.stages_s[_ABOVE] / (self.done[_ABOVE] - 1)


def _ours(dataset: Path, output: Path, settings: ClassifierSettings) -> _Ours:
    found, first_s = _Ours(), defaultdict(time.perf_counter)

    def progress(stage: str, done: int, total: int, loss: float) -> None:
        found.stages_s[stage] = time.perf_counter() - first_s[stage]
        found.done[stage] = done

    start = time.perf_counter()
    train_from_dataset(dataset, output, settings, DEMO_TASK, progress)
    found.seconds = time.perf_counter() - start
    return found


def _lerobot(root: Path, trunk: Path, settings: ClassifierSettings, updates: int) -> tuple[float, float]:
    """Seconds of loading and of updating, as lerobot-train goes about it; one update more, the first, is not counted."""
    torch.manual_seed(settings.seed)
    dataset = LeRobotDataset("bench/set", root=root, video_backend="pyav")
    config = lerobot_config(Shape.of(settings, DEMO_TASK), str(trunk))
    model = make_reward_model(config)
    preprocessor, _ = make_reward_pre_post_processors(config, dataset_stats=dataset.meta.stats)
    accelerator = Accelerator(cpu=True)
    loader = torch.utils.data.DataLoader(
        dataset, settings.batch_size, shuffle=True, num_workers=_WORKERS, persistent_workers=True, prefetch_factor=4,
        multiprocessing_context="spawn",
    )  # fmt: skip
    optimizer = config.get_optimizer_preset().build(model.get_optim_params())
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    names = ("loss", "grad_norm", "lr", "update_s")
    tracker = MetricsTracker(
        settings.batch_size, len(dataset), dataset.num_episodes, {name: AverageMeter(name) for name in names}, 0, accelerator
    )
    batches, loading_s, update_s = cycle(loader), 0.0, 0.0
    for update in range(1 + updates):
        start = time.perf_counter()
        batch = next(batches)
        for key in dataset.meta.camera_keys:
            if batch[key].dtype == torch.uint8:
                batch[key] = batch[key].float() / 255.0
        batch, loaded = preprocessor(batch), time.perf_counter()
        tracker, _ = update_policy(tracker, model, batch, optimizer, config.grad_clip_norm, accelerator)
        if update:
            loading_s, update_s = loading_s + loaded - start, update_s + time.perf_counter() - loaded
    return loading_s, update_s
