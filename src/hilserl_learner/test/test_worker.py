# SPDX-License-Identifier: Apache-2.0
"""The learner without its node: intake, schedule, training thread."""

import dataclasses
import time

import numpy as np
import pytest
from rclpy.serialization import serialize_message

from hilserl_core.errors import CheckpointError, PolicyError
from hilserl_core.policy import PolicySpec
from hilserl_core.sac import SacConfig
from hilserl_core.step import Mode, Step, StepError
from hilserl_core.step_log import StepLogError
from hilserl_core.task import TaskSpec
from hilserl_core.training import Trainer, TrainingConfig
from hilserl_learner.intake import Intake
from hilserl_learner.schedule import PublicationSchedule
from hilserl_learner.settings import LearnerParameters
from hilserl_learner.worker import Worker
from hilserl_ros.convert import step_to_message

TASK = TaskSpec(camera_sizes=(40, 40), crops=(0, 0, 40, 40), image_size=40)
SPEC = PolicySpec(image_encoder_hidden_dim=4, latent_dim=8, actor_hidden_dims=(16,), critic_hidden_dims=(16,))
SAC = SacConfig(batch_size=8, actor_q_delay=2)
CONFIG = TrainingConfig(
    demonstrations=1, replay_capacity=200, demonstration_capacity=100, encoder_updates=2, encoder_batch_size=4,
    imitation_updates=2, critic_updates=2,
)  # fmt: skip


def _steps(demonstrations=1, training=6, length=4):
    rng = np.random.default_rng(0)
    steps = []
    for episode in range(demonstrations + training):
        mode = Mode.DEMONSTRATION if episode < demonstrations else Mode.TRAINING
        for index in range(length + 1):
            last = index == length
            image = {"wrist": rng.integers(0, 256, (40, 40, 3), np.uint8)}
            steps.append(
                Step("run", len(steps) + 1, episode, index, mode, len(steps), index == 0, last, last,
                     rng.normal(size=18).astype(np.float32), image, None if last else rng.uniform(-1, 1, 4).astype(np.float32),
                     None if last else 0.0, False, last, 0)
            )  # fmt: skip
    return steps


def _payload(step):
    return serialize_message(step_to_message(step, TASK))


class _Rig:
    def __init__(self, folder, spec=SPEC, **changes):
        self.published, self.frozen, self.curves, self.complaints = [], [], [], []
        params = dataclasses.replace(
            LearnerParameters(folder=str(folder), lockstep=True, checkpoint_every_steps=8, metrics_every_steps=4), **changes
        )
        self.worker = Worker(
            Trainer(TASK, spec, SAC, CONFIG), params, self.frozen.append,
            lambda data, publication: self.published.append((publication, data)),
            lambda step, values: self.curves.append(step), self.complaints.append,
        )  # fmt: skip

    def until(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert self.worker.failure is None, self.worker.failure
            assert time.monotonic() < end
            time.sleep(0.01)


def _run(folder, steps, restore=()):
    rig = _Rig(folder)
    rig.found = rig.worker.restore(restore)
    rig.worker.start()
    for step in steps:
        rig.worker.put(step, time.time())
    total = (steps or list(restore))[-1].sequence
    rig.until(lambda: rig.worker.trained_through == ("run", total) and not rig.worker.trainer.busy)
    return rig


def test_versions_come_on_schedule_and_act_after_the_lag(tmp_path):
    rig = _run(tmp_path, _steps())
    rig.worker.stop()
    publications = [publication for publication, _ in rig.published]
    assert [p.version for p in publications] == list(range(1, len(publications) + 1))
    assert (publications[0].trained_through, publications[0].effective_from, publications[0].next_effective_from) == (5, 6, 17)
    assert [(p.trained_through, p.effective_from, p.next_effective_from) for p in publications[1:3]] == [
        (9, 17, 21),
        (13, 21, 25),
    ]
    assert len(rig.frozen) == 1 and rig.curves == [4, 8, 12, 16, 20, 24]
    summary = rig.worker.timings.summary()
    assert summary["step_to_learner"]["count"] == len(_steps()) - 5, "those of training; nothing waits for a demonstration"


def _imported_and_run():
    """A demonstration that was imported, and the steps of a run that has none of its own."""
    steps = _steps()
    shown, trained = steps[:5], steps[5:]
    first = trained[0].sequence - 1
    return (
        [dataclasses.replace(step, run_id="") for step in shown],
        [dataclasses.replace(step, sequence=step.sequence - first) for step in trained],
    )


def test_with_imported_demonstrations_the_run_begins_in_training(tmp_path):
    shown, trained = _imported_and_run()
    rig = _Rig(tmp_path)
    rig.worker.restore(shown)
    rig.worker.start()
    rig.until(lambda: rig.published)
    assert rig.worker.trained_through == ("", 0), "any actor may take the first policy"
    first = rig.published[0][0]
    assert (first.version, first.trained_through, first.effective_from, first.next_effective_from) == (1, 0, 1, 12)
    for step in trained:
        rig.worker.put(step, time.time())
    rig.until(lambda: rig.worker.trained_through == ("run", trained[-1].sequence) and not rig.worker.trainer.busy)
    rig.worker.stop()
    later = [publication for publication, _ in rig.published[1:]]
    assert (later[0].version, later[0].effective_from) == (1, 1), "once more, for the run that has begun"
    assert [(p.version, p.trained_through, p.effective_from) for p in later[1:3]] == [(2, 4, 12), (3, 8, 16)]

    again = _Rig(tmp_path)
    found = again.worker.restore([*shown, *trained])
    assert found.startswith("35 steps in the journal, continuing from")
    again.worker.start()
    again.until(lambda: again.worker.trained_through == ("run", trained[-1].sequence) and not again.worker.trainer.busy)
    again.worker.stop()
    assert again.worker.trainer.parameters() == rig.worker.trainer.parameters()


def test_no_step_waits_for_the_first_checkpoint(tmp_path):
    rig, there = _Rig(tmp_path), []
    rig.worker._publish = lambda data, publication: there.append((tmp_path / "checkpoints" / "last").exists())
    rig.worker.start()
    for step in _steps(training=0):
        rig.worker.put(step, time.time())
    rig.until(lambda: there)
    rig.worker.stop()
    assert there == [True]


def test_a_learner_killed_at_any_step_ends_with_the_same_parameters(tmp_path):
    steps = _steps()
    whole = _run(tmp_path / "whole", steps)
    whole.worker.stop()
    cut = _run(tmp_path / "cut", steps[:20])  # dropped without stopping: as after kill -9, the checkpoint is older
    cut.worker._stop.set()
    cut.worker._thread.join()
    again = _Rig(tmp_path / "cut")
    again.found = again.worker.restore(steps[:20])
    assert "20 steps in the journal, continuing from" in again.found
    again.worker.start()
    for step in steps[20:]:
        again.worker.put(step, time.time())
    again.until(lambda: again.worker.trained_through == ("run", steps[-1].sequence) and not again.worker.trainer.busy)
    again.worker.stop()
    assert again.published[-1][1] == whole.published[-1][1] and again.worker.version == whole.worker.version


def test_saving_on_request_and_at_the_end(tmp_path):
    rig = _run(tmp_path, _steps(training=1))
    assert rig.worker.save()
    rig.worker.stop()
    assert (tmp_path / "checkpoints" / "last").is_symlink()
    assert not _Rig(tmp_path / "empty").worker.save(), "nothing is trained yet"


def test_a_checkpoint_of_another_architecture_stops_with_the_difference(tmp_path):
    rig = _run(tmp_path, _steps(training=1))
    rig.worker.stop()
    with pytest.raises(PolicyError, match=r"latent_dim"):
        _Rig(tmp_path, dataclasses.replace(SPEC, latent_dim=12)).worker.restore([])


def test_a_checkpoint_whose_journal_is_gone_stops_with_the_reason(tmp_path):
    rig = _run(tmp_path, _steps())
    rig.worker.stop()
    with pytest.raises(CheckpointError, match=r"the journal holds 3 steps"):
        _Rig(tmp_path).worker.restore(_steps()[:3])


def test_the_journal_gives_back_every_step_and_refuses_what_does_not_fit(tmp_path):
    steps = _steps(training=1)
    intake = Intake(tmp_path, TASK)
    for step in steps[1:3] + steps[:1] + steps[:3]:
        intake.take(_payload(step))
    assert intake.received == 3 and intake.duplicated == 3
    with pytest.raises(StepError):
        intake.take(_payload(dataclasses.replace(steps[3], state=np.zeros(3, np.float32))))
    with pytest.raises(StepError, match=r"cannot be read"):
        intake.take(b"\x00\x01\x00\x00 garbage")
    intake.close()
    again = Intake(tmp_path, TASK)
    assert [step.sequence for step in again.restore()] == [1, 2, 3]
    ack = again.acknowledgement(2)
    assert (ack.run_id, ack.received_through, list(ack.missing), ack.trained_through) == ("run", 3, [], 2)


def test_a_nearly_full_disk_leaves_steps_with_the_actor(tmp_path):
    intake = Intake(tmp_path, TASK, reserve_bytes=lambda: 10**18)
    with pytest.raises(StepLogError, match=r"free disk space, steps wait in the actor's spool"):
        intake.take(_payload(_steps()[0]))
    assert intake.received == 0 and intake.acknowledgement(0).received_through == 0


def test_in_real_time_a_backlog_is_stored_without_updates(tmp_path):
    rig = _Rig(tmp_path, lockstep=False, max_backlog_steps=2)
    steps = _steps(training=20)
    rig.worker.restore([])
    for step in steps:
        rig.worker.put(step, time.time())
    rig.worker.start()
    rig.until(lambda: rig.worker.trained_through == ("run", steps[-1].sequence) and not rig.worker.trainer.busy)
    rig.worker.stop()
    trainer = rig.worker.trainer
    assert trainer.training_steps == 80 and trainer.sac.steps < 20 and trainer.replay.online_size == 80


def test_the_origin_is_the_last_demonstration_that_counts():
    schedule = PublicationSchedule(every=4, lag=8, demonstrations=2)
    for step in _steps(demonstrations=2, training=1):
        schedule.see(step)
    assert schedule.origin == 10
    assert [schedule.publication(sequence).version for sequence in (10, 13, 14, 17, 18)] == [1, 1, 2, 2, 3]
    assert schedule.publication(16).version == 2 and schedule.publication(16).effective_from == 22
