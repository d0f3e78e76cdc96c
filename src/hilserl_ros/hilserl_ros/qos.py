# SPDX-License-Identifier: Apache-2.0
"""The quality of service of every topic, in one place."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy


def reliable(depth: int = 10) -> QoSProfile:
    """Delivered in order while a reader is matched; the newest `depth` are kept."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def latched(depth: int = 1) -> QoSProfile:
    """Reliable, and a late subscriber still gets the newest."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def newest(depth: int = 1) -> QoSProfile:
    """For real-time consumers: only the newest counts, losses are fine."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def recorded(profile: QoSProfile) -> QoSProfile:
    """The same for a publisher of small messages: deep enough that a recorder that lags loses none."""
    return QoSProfile(depth=200, reliability=profile.reliability, durability=profile.durability)


JOINT_STATES = reliable(10)
JOINT_COMMAND = reliable(1)
IMAGE = reliable(5)
REWARD = reliable(10)
TELEOP = reliable(1)
EPISODE_EVENT = reliable(10)
EPISODE_RESULT = latched(50)
JOY = reliable(10)
STEPS = reliable(64)
STEPS_ACK = reliable(10)
"""What is on the way may be lost or dropped by a full queue: acknowledgements, not QoS, guarantee delivery."""
ESTOP_REQUEST = reliable(10)
"""Deep enough that nobody's `false` takes the place of a `true` before it was read."""
STATUS = latched(1)
POLICY = latched(4)
"""Deep enough that in lockstep no version is overtaken by the next; a late actor gets the newest at once."""
CLOCK = newest(1)
CUBE_POSE = reliable(10)
DIAGNOSTICS = reliable(10)
OVERLAY = reliable(1)
TF = reliable(100)
"""The same as tf2's own broadcaster offers."""
