# SPDX-License-Identifier: Apache-2.0
"""The learner: steps in, acknowledgements and policies out. Training runs in a thread of its own, in worker.py."""

from __future__ import annotations

import array
import dataclasses
import hashlib
import sys
from pathlib import Path

import psutil
from diagnostic_msgs.msg import KeyValue
from rclpy.clock import Clock, ClockType
from std_srvs.srv import Trigger

from hilserl_core.policy import PolicySpec, architecture, architecture_hash
from hilserl_core.sac import SacConfig
from hilserl_core.step import StepError
from hilserl_core.training import Trainer, TrainingConfig
from hilserl_interfaces.msg import LearnerStatus, PolicyParameters, StepAck
from hilserl_interfaces.msg import Step as StepMessage
from hilserl_learner.curves import Curves
from hilserl_learner.intake import Intake
from hilserl_learner.schedule import Publication
from hilserl_learner.settings import LearnerParameters
from hilserl_learner.worker import Worker
from hilserl_ros import qos
from hilserl_ros.node import BaseNode, main_of

TABLES = {"policy.": PolicySpec, "sac.": SacConfig, "training.": TrainingConfig}


class LearnerNode(BaseNode[LearnerParameters]):
    """See docs/architecture.md for the pace of learning and for what is never lost."""

    def __init__(self) -> None:
        super().__init__("learner", LearnerParameters, TABLES)
        params, folder = self.params, Path(self.params.folder)
        self._spec: PolicySpec = self.tables["policy."]
        self._architecture = architecture(self._spec, self.task)
        self._architecture_hash = architecture_hash(self._spec, self.task)
        self._frozen_sha256 = ""
        self._policy = self.create_publisher(PolicyParameters, "policy", qos.POLICY)
        self._frozen = self.create_publisher(PolicyParameters, "policy/frozen", qos.latched(1))
        self._ack = self.create_publisher(StepAck, "steps/ack", qos.STEPS_ACK)
        self._status = self.create_publisher(LearnerStatus, "learner/status", qos.STATUS)

        self._intake = Intake(folder, self.task, lambda: self.params.reserve_mb * 1_000_000)
        trainer = Trainer(self.task, self._spec, self.tables["sac."], self.tables["training."])
        config = {prefix.rstrip("."): dataclasses.asdict(table) for prefix, table in self.tables.items()}
        self._curves = Curves(folder, params.tensorboard, params.wandb_project, config)
        self._worker = Worker(
            trainer, params, self._publish_frozen, self._publish, self._curves.add, lambda why: self.get_logger().error(why)
        )
        found = self._worker.restore(self._intake.restore())
        if self._intake.dropped_bytes:
            self.get_logger().warning(f"the journal's last {self._intake.dropped_bytes} bytes were cut short by a crash")
        self.get_logger().info(found)
        self._received_before = self._intake.received
        sys.setswitchinterval(0.001)  # acknowledgements must not wait long for the training thread
        self._worker.start()

        self.create_subscription(StepMessage, "steps", self._on_step, qos.STEPS, raw=True)
        self.create_service(Trigger, "~/save_checkpoint", self._on_save)
        self.create_timer(0.5, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _on_step(self, payload: bytes, info: dict) -> None:
        try:
            steps = self._intake.take(payload)
        except (StepError, OSError) as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        for step in steps:
            self._worker.put(step, info["source_timestamp"] * 1e-9)
        self._acknowledge()

    def _acknowledge(self) -> None:
        if self._intake.run_id:
            run_id, sequence = self._worker.trained_through
            self._ack.publish(self._intake.acknowledgement(sequence if run_id == self._intake.run_id else 0))

    def _on_save(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._worker.save()
        folder = self._worker.checkpoints
        response.message = (
            f"saved in {folder}" if response.success else "nothing is trained yet, or the disk is full: see the log"
        )
        return response

    def _on_timer(self) -> None:
        """Twice a second: status, and an acknowledgement for an actor that missed the last one."""
        if self._worker.failure is not None:
            raise self._worker.failure
        self._acknowledge()
        worker, intake = self._worker, self._intake
        metrics = {**worker.status, "resident_mb": psutil.Process().memory_info().rss / 1e6}
        message = LearnerStatus(
            run_id=intake.run_id,
            phase=worker.phase,
            progress=float(worker.progress),
            optimization_step=int(metrics.get("updates", 0)),
            policy_version=worker.version,
            replay_size=int(metrics.get("replay_size", 0)),
            demonstration_size=int(metrics.get("demonstration_size", 0)),
            steps_received=intake.received,
            steps_duplicated=intake.duplicated,
            trained_through=worker.trained_through[1],
            updates_per_second=float(worker.updates_per_second),
            metrics=[KeyValue(key=key, value=f"{value:.6g}") for key, value in metrics.items()],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._status.publish(message)

    def on_parameters(self, params: LearnerParameters) -> None:
        """The worker reads them at every slice."""
        self._worker.params = params

    def _publish_frozen(self, data: bytes) -> None:
        self._frozen_sha256 = hashlib.sha256(data).hexdigest()
        self._frozen.publish(self._message(data, "safetensors/fp32"))

    def _publish(self, data: bytes, publication: Publication) -> None:
        message = self._message(data, "safetensors/fp16" if self.params.half_precision else "safetensors/fp32")
        message.version = publication.version
        message.trained_through = publication.trained_through
        message.effective_from = publication.effective_from
        message.next_effective_from = publication.next_effective_from
        self._policy.publish(message)

    def _message(self, data: bytes, encoding: str) -> PolicyParameters:
        message = PolicyParameters(
            run_id=self._worker.trained_through[0] or self._intake.run_id,
            task_digest=self.task.digest(),
            architecture=self._architecture,
            architecture_hash=self._architecture_hash,
            frozen_sha256=self._frozen_sha256,
            encoding=encoding,
            sha256=hashlib.sha256(data).hexdigest(),
            data=array.array("B", data),
        )
        message.header.stamp = self.get_clock().now().to_msg()
        return message

    def close(self) -> None:
        """A last checkpoint; the journal is on disk already."""
        self._worker.stop()
        self._intake.close()
        self._curves.close()
        self._worker.timings.save(Path(self.params.folder) / "learner_timings.json")


main = main_of(LearnerNode)
