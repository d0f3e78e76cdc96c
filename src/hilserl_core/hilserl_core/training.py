# SPDX-License-Identifier: Apache-2.0
"""The learner without ROS: takes steps in, goes from demonstrations to training, and gives policies out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numba
import numpy as np
import torch

from hilserl_core.encoder import FrameEncoder
from hilserl_core.errors import TrainingError
from hilserl_core.fields import described, tidy
from hilserl_core.frames import shifted
from hilserl_core.normalization import Normalization
from hilserl_core.parameters import export_frozen, export_parameters
from hilserl_core.policy import Policy, PolicySpec
from hilserl_core.pretraining import EncoderPretraining
from hilserl_core.replay import Batch, Replay
from hilserl_core.sac import Sac, SacConfig
from hilserl_core.step import Mode, Step, check_step
from hilserl_core.task import TaskSpec


@dataclass(frozen=True)
class TrainingConfig:
    """From demonstrations to training. Each field is the ROS parameter `training.<field>`."""

    seed: int = described(0, "Seed of everything random in training.", minimum=0, maximum=2**63 - 1)
    threads: int = described(1, "CPU threads; a result only repeats with the same number.", minimum=1, maximum=256)
    device: str = described("cpu", "Where networks are computed: cpu, cuda or cuda:<n>.")
    demonstrations: int = described(20, "Successful demonstrations before training begins.", minimum=0, maximum=100_000)
    replay_capacity: int = described(100_000, "Training steps kept.", minimum=2, maximum=100_000_000)
    demonstration_capacity: int = described(20_000, "Demonstration steps kept.", minimum=2, maximum=100_000_000)
    store_features: bool = described(True, "Keep features of the frozen image encoder instead of pixels.")
    variants: int = described(4, "Stored features per frame: of the plain image, and of shifted ones.", minimum=1, maximum=64)
    max_shift: int = described(4, "Largest random shift of an image, in pixels.", minimum=0, maximum=64)
    encoder_updates: int = described(500, "Updates of the image encoder on the demonstrations.", minimum=0, maximum=10**7)
    encoder_batch_size: int = described(64, "Images per camera in such an update.", minimum=1, maximum=65536)
    encoder_lr: float = described(1e-3, "Learning rate of such an update, at its highest.", minimum=1e-8, maximum=1.0)
    imitation_updates: int = described(500, "Updates of the actor by imitation alone.", minimum=0, maximum=10**7)
    critic_updates: int = described(300, "Updates of the critics alone, after that.", minimum=0, maximum=10**7)

    def __post_init__(self) -> None:
        tidy(self, "training", TrainingError)
        if self.device != "cpu" and not torch.cuda.is_available():
            raise TrainingError(f"training.device is {self.device!r}, but no CUDA device is available here: use 'cpu'")


class Phase(Enum):
    """What the learner is doing."""

    COLLECTING = "collecting"
    PRETRAINING = "pretraining"
    WARMING_UP = "warming_up"
    TRAINING = "training"


class Trainer:
    """Deterministic: the same seed and the same steps in the same order give the same parameters, bit for bit.

    `add` only queues a step. `work` takes queued steps one at a time, stores each, and makes the updates owed for it before
    it takes the next, so that nothing depends on how early a step arrived.
    """

    def __init__(self, task: TaskSpec, spec: PolicySpec, sac: SacConfig, config: TrainingConfig) -> None:
        """Raises PolicyError when the image encoder cannot be loaded, TrainingError when settings contradict themselves."""
        if config.store_features and not spec.freeze_encoder:
            raise TrainingError("training.store_features needs policy.freeze_encoder, since a trained encoder changes features")
        self._set_threads(config.threads)
        self.task, self.spec, self.config = task, spec, config
        self.sac_config = sac
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.policy = Policy(spec, task)
            self.sac = Sac(self.policy, sac, pixels=not config.store_features, device=config.device)
        self.noise = torch.Generator().manual_seed(config.seed)
        self.draws = np.random.Generator(np.random.MT19937(config.seed))
        self.phase = Phase.COLLECTING
        self.normalization: Normalization | None = None
        self.replay: Replay | None = None
        self.steps_taken = 0  # steps of all modes, stored and trained on
        self.training_steps = 0  # those of them that owed updates
        self.demonstrations = 0
        self.trained_through = ("", 0)  # run and sequence number of the last step taken
        self._resume_after = 0  # steps that only need storing, since the checkpoint has been trained on them
        self._queue: deque[Step] = deque()
        self._held: list[Step] = []  # demonstrations as pixels, until the encoder is trained
        self._stored = 0
        self._owed = 0  # steps stored by `store_waiting` whose updates are still to be made
        self._given_up = 0  # of those, the ones whose updates there was no time for
        self._pretraining: EncoderPretraining | None = None
        self._warm_up = 0
        self._measures: dict[str, torch.Tensor] = {}
        self._frame_encoder: FrameEncoder | None = None
        self.on_stored: Callable[[], None] = lambda: None  # called when a step has become usable, before its updates
        self.between_updates: Callable[[], None] = lambda: None  # called before each batch of `_train` is drawn
        if config.demonstrations == 0:
            self._begin(Normalization.default(task))
            self._start_training()

    # In ---------------------------------------------------------------------------------------------------------------

    def add(self, step: Step) -> None:
        """Queue a step, in the order of the journal. Raises StepError when it does not fit the task."""
        check_step(step, self.task)
        self._queue.append(step)

    def resume(self, normalization: Normalization, steps_taken: int, trained_through: tuple[str, int]) -> None:
        """Go on in training with networks that were trained on the first `steps_taken` steps; these are only stored."""
        self._begin(normalization)
        self._pretraining, self._frame_encoder, self.phase = None, None, Phase.TRAINING
        self._resume_after, self.trained_through = steps_taken, trained_through

    @property
    def steps_waiting(self) -> int:
        """Steps added but not taken yet."""
        return len(self._queue)

    @property
    def steps_to_restore(self) -> int:
        """Steps that the checkpoint continued from was trained on; 0 without one."""
        return self._resume_after

    @property
    def restoring(self) -> bool:
        """Whether steps that a checkpoint has been trained on are still to be stored."""
        return self.steps_taken < self._resume_after

    def store_waiting(self, most_owed: int) -> None:
        """In training, store all steps waiting at once, so that updates can use them; `work` makes up for their updates later.

        Updates are owed for at most `most_owed` steps. What is computed then depends on when steps arrived.
        """
        while self.phase is Phase.TRAINING and self._queue:
            self._owed += self._take(self._queue.popleft())
        self._given_up += max(0, self._owed - most_owed)
        self._owed = min(self._owed, most_owed)

    # Work -------------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether `work` has anything to do."""
        return bool(self._queue or self._owed) or self.phase in (Phase.PRETRAINING, Phase.WARMING_UP)

    def work(self, budget_s: float = 0.0) -> int:
        """Do the next slices of work until the budget is spent, at least one when there is one.

        A slice is one update of pretraining or warming up, or one step taken with all updates owed for it. Stops after a
        step that was trained on, so that the caller can publish. Returns the number of slices.
        """
        self._set_threads(self.config.threads)
        end, slices = time.monotonic() + budget_s, 0
        while self.busy:
            updates = self.sac.steps
            self._slice()
            slices += 1
            if (self.phase is Phase.TRAINING and self.sac.steps != updates) or time.monotonic() >= end:
                break
        return slices

    @staticmethod
    def _set_threads(count: int) -> None:
        """For the calling thread. numba comes first: when it starts its threads it changes OpenMP's setting for torch too."""
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(count)

    def _slice(self) -> None:
        if self.phase is Phase.PRETRAINING:
            self._pretrain()
        elif self.phase is Phase.WARMING_UP:
            self._warm()
        elif self._owed:
            self._owed -= 1
            self._train()
        elif self._take(self._queue.popleft()):
            self._train()

    def _take(self, step: Step) -> bool:
        """Store a step; whether it owes updates."""
        self.steps_taken += 1
        owes = step.mode == Mode.TRAINING and step.action is not None
        self.training_steps += owes
        if self.steps_taken > self._resume_after and step.run_id:  # imported demonstrations have none
            self.trained_through = (step.run_id, step.sequence)
        self.demonstrations += step.completes_demonstration
        if self.replay is None:
            self._held.append(step)
            self.on_stored()
            if self.demonstrations >= self.config.demonstrations:
                self._begin_pretraining()
            return False
        self._store(step)
        self.on_stored()
        return owes and self.steps_taken > self._resume_after and self.replay.size > 0

    def _train(self) -> None:
        """The updates owed for one training step."""
        batch_size = self.sac_config.batch_size

        def batches() -> Iterator[Batch]:
            for _ in range(self.sac_config.utd_ratio):
                self.between_updates()
                yield self.replay.sample(batch_size, self.draws, max_shift=self.config.max_shift)

        self._measures |= self.sac.update(batches(), self.noise)

    # Before training --------------------------------------------------------------------------------------------------

    def _begin(self, normalization: Normalization) -> None:
        self.normalization = normalization
        shape = self.policy.encoder_critic.feature_shape if self.config.store_features else None
        self.replay = Replay(
            self.task,
            normalization,
            self.config.replay_capacity,
            self.config.demonstration_capacity,
            feature_shape=shape,
            variants=self.config.variants,
        )

    def _begin_pretraining(self) -> None:
        succeeded = {(step.run_id, step.episode) for step in self._held if step.completes_demonstration}
        shown = [step for step in self._held if (step.run_id, step.episode) in succeeded]
        self.normalization = Normalization.from_states(np.stack([step.state for step in shown]), self.task)
        self._pretraining = EncoderPretraining(
            self.policy,
            self.normalization,
            shown,
            seed=self.config.seed,
            batch_size=self.config.encoder_batch_size,
            learning_rate=self.config.encoder_lr,
            updates=self.config.encoder_updates,
            max_shift=self.config.max_shift,
        )
        self.phase = Phase.PRETRAINING

    def _pretrain(self) -> None:
        """One update of the encoder; after the last, one held step into the replay; then on to warming up."""
        if self._pretraining is not None:
            if not self._pretraining.finished:
                self._measures["encoder_loss"] = self._pretraining.update()
                return
            self._pretraining.finish()
            self._pretraining = None
            self._begin(self.normalization)
            self._held.reverse()
        if self._held:
            self._store(self._held.pop())
        else:
            self.phase = Phase.WARMING_UP

    def _warm(self) -> None:
        """One update of the actor by imitation, then of the critics, then training begins."""
        batch_size, shift = self.sac_config.batch_size, self.config.max_shift
        if self._warm_up < self.config.imitation_updates:
            batch = self.replay.person_batch(batch_size, self.draws, max_shift=shift)
            self._measures |= self.sac.imitate(batch)
        elif self._warm_up < self.config.imitation_updates + self.config.critic_updates:
            batch = self.replay.sample(batch_size, self.draws, max_shift=shift)
            self._measures |= self.sac.update_critics_alone(batch, self.noise)
        else:
            self._start_training()
        self._warm_up += 1

    def _start_training(self) -> None:
        self.sac.move_average(1.0)
        self.phase = Phase.TRAINING

    def _store(self, step: Step) -> None:
        """Into the replay, as pixels or as features of the plain and some shifted images.

        One step at a time and with shifts drawn from its number alone, so that a replay built again from the journal is the
        same to the bit.
        """
        number, self._stored = self._stored, self._stored + 1
        if step.mode == Mode.EVALUATION:
            return
        if not self.config.store_features:
            self.replay.add(step)
            return
        if self._frame_encoder is None:
            self._frame_encoder = FrameEncoder(self.policy.actor.encoder.image_encoder)
        images = np.stack([step.images[camera] for camera in self.task.cameras])
        rng, limit = np.random.default_rng([self.config.seed, 2, number]), self.config.max_shift
        shifts = rng.integers(-limit, limit + 1, size=(self.config.variants, 2))
        shifts[0] = 0
        frames = np.concatenate([shifted(images, int(down), int(right)) for down, right in shifts])
        features = self._frame_encoder(frames).unflatten(0, (self.config.variants, len(images)))
        self.replay.add(step, features.clamp_max(torch.finfo(torch.float16).max).half().cpu().numpy())

    # Out --------------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is a policy to publish."""
        return self.phase is Phase.TRAINING

    def parameters(self, half: bool = True) -> bytes:
        """The averaged actor, for `Actor.load_parameters`. Raises PolicyError when training has diverged."""
        return export_parameters(self.policy, half, self.sac.average)

    def frozen(self) -> bytes:
        """What stays as it is, for `Actor.load_frozen`. Call it once `ready`."""
        return export_frozen(self.policy, self.normalization)

    @property
    def progress(self) -> float:
        """How much of the phase is done, 0 to 1; of training, nothing is known here."""
        config = self.config
        if self.phase is Phase.COLLECTING:
            return self.demonstrations / max(1, config.demonstrations)
        if self.phase is Phase.PRETRAINING:
            return self._pretraining.done / max(1, config.encoder_updates) if self._pretraining is not None else 1.0
        if self.phase is Phase.WARMING_UP:
            return self._warm_up / max(1, config.imitation_updates + config.critic_updates)
        return 0.0

    def status(self) -> dict[str, float]:
        """Counters and the newest measures of training."""
        measures = {name: float(value) for name, value in self._measures.items()}
        replay = self.replay
        return {
            "steps_taken": self.steps_taken,
            "training_steps": self.training_steps,
            "demonstrations": self.demonstrations,
            "optimization_steps": self.sac.steps,
            "updates": self.sac.steps * self.sac_config.utd_ratio,
            "updates_given_up": self._given_up * self.sac_config.utd_ratio,
            "replay_size": replay.size if replay else 0,
            "online_size": replay.online_size if replay else 0,
            "demonstration_size": replay.demonstration_size if replay else 0,
            "bc_weight": self.sac.bc_weight,
            **measures,
        }
