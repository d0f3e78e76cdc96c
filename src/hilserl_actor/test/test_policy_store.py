# SPDX-License-Identifier: Apache-2.0
"""Policies as they arrive: nothing that does not fit is used, nothing raises, lockstep applies them on schedule."""

import array
import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from hilserl_actor.policy_store import PolicyStore
from hilserl_actor.settings import ActorParameters
from hilserl_core.normalization import Normalization
from hilserl_core.parameters import export_frozen, export_parameters
from hilserl_core.policy import Policy, PolicySpec, architecture, architecture_hash
from hilserl_core.step import Observation
from hilserl_core.task import TaskSpec
from hilserl_interfaces.msg import PolicyParameters

TASK = TaskSpec(camera_sizes=(64, 64), crops=(0, 0, 64, 64), image_size=64)
SPEC = PolicySpec(image_encoder_hidden_dim=4, latent_dim=8, actor_hidden_dims=(16,), critic_hidden_dims=(16,))
RUN = "run"


class _Log:
    def __init__(self):
        self.errors = []

    def error(self, text, **_):
        self.errors.append(text)


class _Learner:
    """Makes messages as the learner does."""

    def __init__(self, spec=SPEC, task=TASK, seed=0):
        torch.manual_seed(seed)
        self.spec, self.task = spec, task
        self.policy = Policy(spec, task)
        self.frozen = export_frozen(self.policy, Normalization.default(task))

    def message(self, data, **fields):
        return PolicyParameters(
            run_id=RUN,
            task_digest=self.task.digest(),
            architecture=architecture(self.spec, self.task),
            architecture_hash=architecture_hash(self.spec, self.task),
            frozen_sha256=hashlib.sha256(self.frozen).hexdigest(),
            sha256=hashlib.sha256(data).hexdigest(),
            data=array.array("B", data),
            **fields,
        )

    def frozen_message(self):
        return self.message(self.frozen)

    def version(self, number, effective_from=1, next_effective_from=0):
        with torch.no_grad():
            self.policy.actor.mean_layer.bias.fill_(number / 10)
        data = export_parameters(self.policy)
        return self.message(data, version=number, effective_from=effective_from, next_effective_from=next_effective_from)


def _store(**changes):
    log = _Log()
    params = dataclasses.replace(ActorParameters(), **changes)
    return PolicyStore(SPEC, TASK, params, RUN, log), log


def _observation():
    rng = np.random.default_rng(0)
    return Observation(1, rng.normal(size=18).astype(np.float32), {"wrist": rng.integers(0, 256, (64, 64, 3), np.uint8)})


def test_parameters_wait_for_their_frozen_tensors_then_act_at_the_next_tick():
    store, _ = _store()
    learner = _Learner()
    store.take(learner.version(1), 0.0)
    assert not store.ready(1) and store.version == 0
    store.take_frozen(learner.frozen_message())
    assert store.ready(1) and store.version == 1 and store.take_latency() is not None and store.take_latency() is None
    before = store.act(_observation(), 1, True)
    store.take(learner.version(3), 0.0)
    assert store.ready(2) and store.version == 3
    assert not np.array_equal(before, store.act(_observation(), 2, True))


def test_lockstep_acts_with_a_version_from_its_step_and_waits_for_the_one_that_is_due():
    store, _ = _store(lockstep=True)
    learner = _Learner()
    store.take_frozen(learner.frozen_message())
    store.take(learner.version(1, 11, 22), 0.0)
    assert store.ready(11) and store.ready(21)
    assert not store.ready(22), "version 2 acts from step 22 and is not here"
    store.take(learner.version(2, 22, 26), 0.0)
    store.take(learner.version(3, 26, 30), 0.0)
    assert store.ready(25) and store.version == 2, "version 3 is here early and waits"
    assert store.ready(26) and store.version == 3 and store.applied == 3


def test_an_actor_that_was_restarted_takes_the_first_version_it_gets():
    store, _ = _store(lockstep=True)
    learner = _Learner()
    store.take_frozen(learner.frozen_message())
    store.take(learner.version(7, 50, 60), 0.0)
    assert store.ready(43) and store.version == 7


def test_versions_repeated_by_a_resumed_learner_are_dropped():
    store, _ = _store()
    learner = _Learner()
    store.take_frozen(learner.frozen_message())
    for number in (1, 2, 3, 2, 1):
        store.take(learner.version(number), 0.0)
    assert store.ready(1) and store.version == 3 and store.applied == 3


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda m: setattr(m, "sha256", "0" * 64), "checksum does not match"),
        (lambda m: setattr(m, "task_digest", "other"), "use the same config/task.yaml"),
        (lambda m: setattr(m, "data", m.data[:-8]), "checksum does not match"),
    ],
)
def test_a_message_that_does_not_fit_is_refused_in_one_sentence_and_the_actor_goes_on(spoil, sentence):
    store, log = _store()
    learner = _Learner()
    store.take_frozen(learner.frozen_message())
    store.take(learner.version(1), 0.0)
    assert store.ready(1)
    message = learner.version(2)
    spoil(message)
    store.take(message, 0.0)
    assert store.ready(2) and store.version == 1 and store.refused == 1
    assert len(log.errors) == 1 and sentence in log.errors[0] and "\n" not in log.errors[0]


def test_another_architecture_is_refused_and_the_difference_named():
    store, log = _store()
    other = _Learner(dataclasses.replace(SPEC, latent_dim=12))
    store.take_frozen(other.frozen_message())
    store.take(other.version(1), 0.0)
    assert not store.ready(1) and "policy.latent_dim: 8 here, 12 there" in log.errors[0]


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"\x80\x04\x95pickle."])
def test_bytes_that_are_no_parameters_are_refused(data):
    store, log = _store()
    learner = _Learner()
    store.take_frozen(learner.frozen_message())
    store.take(learner.message(data, version=1), 0.0)
    assert not store.ready(1) and store.refused == 1 and len(log.errors) == 1


def test_parameters_of_wrong_shape_or_not_finite_are_refused():
    store, log = _store()
    learner = _Learner()
    store.take_frozen(learner.frozen_message())
    tensors = learner.policy.actor_tensors(frozen=False)
    from safetensors.torch import save

    name = next(iter(tensors))
    for bad in ({**tensors, name: tensors[name].flatten()[:1]}, {**tensors, name: torch.full_like(tensors[name], torch.nan)}):
        store.take(learner.message(save({k: v.contiguous() for k, v in bad.items()}), version=1), 0.0)
        assert not store.ready(1)
    assert "shape" in log.errors[0] and "not finite" in log.errors[1]


def test_exploration_depends_on_seed_and_step_alone():
    learner = _Learner()
    actions = []
    for calls in ((5,), (4, 5)):
        store, _ = _store(seed=9)
        store.take_frozen(learner.frozen_message())
        store.take(learner.version(1), 0.0)
        assert store.ready(1)
        actions.append([store.act(_observation(), sequence, False) for sequence in calls][-1])
    np.testing.assert_array_equal(actions[0], actions[1])


def test_an_actor_begins_with_the_policy_of_the_run_before_and_ignores_it_once_it_has_its_own():
    store, log = _store(lockstep=True)
    learner = _Learner()
    frozen, old = learner.frozen_message(), learner.version(700, effective_from=2800, next_effective_from=2804)
    frozen.run_id = old.run_id = "another"
    store.take_frozen(frozen)
    store.take(old, 0.0)
    assert store.ready(1) and store.version == 700 and store.ready(5000)
    store.take_frozen(learner.frozen_message())
    store.take(learner.version(2, effective_from=12, next_effective_from=16), 0.0)
    assert store.ready(11) and store.version != 2
    assert store.ready(12) and store.version == 2 and not store.ready(16)
    later = learner.version(701)
    later.run_id = "another"
    store.take(later, 0.0)
    store.ready(13)
    assert store.version == 2 and store.refused == 0 and not log.errors


def test_evaluation_without_a_checkpoint_is_one_clear_error():
    with pytest.raises(ValueError, match="evaluation needs a policy: set checkpoint"):
        _store(mode="evaluation")
