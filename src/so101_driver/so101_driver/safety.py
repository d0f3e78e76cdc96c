# SPDX-License-Identifier: Apache-2.0
"""What every joint command passes before it becomes a goal of a servo, whoever sent it. No ROS, no bus, no clock of its own."""

from __future__ import annotations

from collections import Counter

import numpy as np

from so101_driver.arm import ArmState, Command, Decision, Mode
from so101_driver.errors import SafetyError
from so101_driver.estop import EmergencyStop
from so101_driver.gripper import GripperGuard
from so101_driver.limits import JointLimits
from so101_driver.safety_config import SafetyConfig

_SHORTEST_S = 1e-3


class Safety:
    """Called once per cycle. It begins stopped: `reset` switches it on from where the arm stands.

    counts: how often each kind of thing was refused or clipped, since the beginning. fastest: (J,) rad/s, each joint's limit.
    """

    def __init__(self, limits: JointLimits, config: SafetyConfig | None = None, estop: EmergencyStop | None = None) -> None:
        """estop: a person's stop, which `reset` does not clear."""
        self.limits, self.config = limits, config or SafetyConfig()
        self.estop = estop or EmergencyStop()
        self.counts: Counter[str] = Counter()
        self._stopped: str | None = "not switched on"
        self._frozen = True
        self._goal = np.clip(np.zeros(len(limits.joints)), limits.lower, limits.upper)
        self._target, self._rate = self._goal.copy(), np.zeros_like(self._goal)
        self._last_s: float | None = None
        self._stepped_s: float | None = None  # as _last_s, None after a reset
        self._command_s, self._wanted = -np.inf, self._goal.copy()
        self._hot: set[str] = set()
        self._gripper = GripperGuard(self.config)
        self.fastest = np.full(len(limits.joints), self.config.max_velocity_rad_s)
        self.fastest[-1] = self.config.gripper_velocity_rad_s

    @property
    def stopped(self) -> str | None:
        """Why the arm is stopped, a person's stop first; None while it is not."""
        return self.estop.reason or self._stopped

    def stop(self, reason: str) -> None:
        """Stop: the next cycle tells the arm to stay where it is; after that nothing is written until `reset`."""
        if self._stopped is None:
            self._stopped = reason

    def reset(self, positions: np.ndarray) -> None:
        """End every stop but a person's, and hold at the measured positions (J,) rad.

        Raises SafetyError when a joint is far out of its limits.
        """
        limits = self.limits
        positions = np.asarray(positions, float)
        if positions.shape != self._goal.shape or not np.isfinite(positions).all():
            raise SafetyError(f"the arm's positions are {positions.tolist()}, expected {len(limits.joints)} finite numbers")
        beyond = np.maximum(limits.lower - positions, positions - limits.upper)
        worst = int(beyond.argmax())
        if beyond[worst] > self.config.start_slack_rad:
            raise SafetyError(
                f"{limits.joints[worst]} stands at {positions[worst]:.2f} rad, its limits are {limits.lower[worst]:.2f} to "
                f"{limits.upper[worst]:.2f}; move it inside by hand, or calibrate the arm again"
            )
        self._stopped, self._frozen, self._stepped_s = None, False, None
        self._hold_at(positions)
        self._command_s = -np.inf
        self._gripper = GripperGuard(self.config)

    def _hold_at(self, positions: np.ndarray) -> None:
        self._goal = np.clip(positions, self.limits.lower, self.limits.upper)
        self._target = self._goal.copy()

    def step(self, now_s: float, state: ArmState, command: Command | None = None) -> Decision:
        """Decide what to write now. now_s: steady clock. command: what came since the last call, None for nothing."""
        config = self.config
        elapsed = 0.0 if self._last_s is None else max(0.0, now_s - self._last_s)
        self._last_s = now_s
        refused, reasons = self._refusal(command), []
        stood_s, self._stepped_s = now_s - (now_s if self._stepped_s is None else self._stepped_s), now_s
        if stood_s > config.lost_s:
            self.stop(f"the driver stood still for {stood_s:.1f} s")
        if state.age_s > config.lost_s:
            self.stop(f"no positions for {config.lost_s:g} s")
        known = state.age_s <= config.state_timeout_s and bool(np.isfinite(state.positions).all())
        if self.stopped is not None:
            return self._stand(state, known, refused or (self.stopped if command else ""))
        if not known:
            reasons.append("positions are not up to date")
        reasons += self._heat(state) + self._voltage(state)
        clipped: set[str] = set()
        if command is not None and not refused:
            if reasons:
                refused = self._refuse("protected", reasons[0])
            else:
                clipped = self._take(now_s, command)
        following = now_s - self._command_s <= config.watchdog_s and not reasons
        if not following:
            self._target = self._goal.copy()
        if not known:
            return Decision(None, self._goal.copy(), Mode.HOLD, refused, tuple(reasons))
        eased = self._move(now_s, elapsed, state)
        mode = Mode.FOLLOW if following else Mode.HOLD
        reasons += [eased] if eased else []
        names = tuple(joint for joint in self.limits.joints if joint in clipped)
        return Decision(self.limits.to_goals(self._goal), self._goal.copy(), mode, refused, tuple(reasons), names)

    def _refusal(self, command: Command | None) -> str:
        """Why a command cannot be one for this arm; empty when it can."""
        if command is None:
            return ""
        joints = self.limits.joints
        if len(command.joints) != len(joints) or len(command.positions) != len(joints):
            found = f"it has {len(command.joints)} joints and {len(command.positions)} positions"
            return self._refuse("joints", f"{found}, expected {len(joints)} of each")
        if sorted(command.joints) != sorted(joints):
            return self._refuse("joints", f"it names {list(command.joints)}, expected each of {list(joints)}")
        if not np.isfinite(np.asarray(command.positions, float)).all():
            return self._refuse("not finite", f"it holds {list(command.positions)}, expected finite numbers")
        if not -self.config.command_timeout_s <= command.age_s <= self.config.command_timeout_s:
            return self._refuse("stale", f"it is {command.age_s:.3f} s old, allowed: {self.config.command_timeout_s:g} s")
        return ""

    def _refuse(self, kind: str, reason: str) -> str:
        self.counts[f"refused: {kind}"] += 1
        return reason

    def _take(self, now_s: float, command: Command) -> set[str]:
        """A new target and the pace to it. Returns the joints that were asked for too much."""
        limits, config = self.limits, self.config
        by_name = dict(zip(command.joints, command.positions, strict=True))
        wanted = self._unwrapped(now_s, np.array([by_name[joint] for joint in limits.joints], float))
        self._target = np.clip(wanted, limits.lower, limits.upper)
        # At the pace of the commands themselves where they come faster: else each would fall short of the one before.
        ramp_s = max(min(config.ramp_s, now_s - self._command_s), _SHORTEST_S)
        asked, fastest = np.abs(self._target - self._goal) / ramp_s, self.fastest
        self._rate = np.minimum(asked, fastest)
        self._command_s = now_s
        too_much = {"position": np.abs(wanted - self._target) > 1e-6, "velocity": asked > fastest + 1e-9}
        for kind, which in too_much.items():
            self.counts.update(f"clipped: {kind} of {joint}" for joint in self._named(which))
        return self._named(too_much["position"] | too_much["velocity"])

    def _unwrapped(self, now_s: float, wanted: np.ndarray) -> np.ndarray:
        """A joint that turns nearly all the way round goes on by the shorter way from the command before.

        More than half a turn between two commands of a stream is the seam of somebody's encoder, and no motion.
        """
        if now_s - self._command_s <= self.config.watchdog_s:
            turns = np.round((self._wanted - wanted) / (2 * np.pi))
            wanted = np.where(self.limits.upper - self.limits.lower > 1.5 * np.pi, wanted + 2 * np.pi * turns, wanted)
        self._wanted = wanted
        return wanted

    def _named(self, which: np.ndarray) -> set[str]:
        return {joint for joint, chosen in zip(self.limits.joints, which, strict=True) if chosen}

    def _move(self, now_s: float, elapsed: float, state: ArmState) -> str:
        """The next goal, one step towards the target. Returns why the gripper is eased, empty when it is not."""
        before, farthest = self._goal, self.config.max_step_rad
        reach = np.minimum(self._rate * min(elapsed, 1.0), farthest)
        goal = before + np.clip(self._target - before, -reach, reach)
        goal[-1], eased = self._gripper.ease(now_s, goal[-1], self._target[-1], state)
        goal = np.clip(goal, before - farthest, before + farthest)
        self._goal = np.clip(goal, self.limits.lower, self.limits.upper)
        return eased

    def _stand(self, state: ArmState, known: bool, refused: str) -> Decision:
        """Stopped: say once where to stay, then nothing."""
        goals = None
        if not self._frozen and known:
            self._frozen = True
            self._hold_at(state.positions)
            goals = self.limits.to_goals(self._goal)
        return Decision(goals, self._goal.copy(), Mode.STOPPED, refused, (self.stopped or "",))

    def _heat(self, state: ArmState) -> list[str]:
        for joint, value in state.temperatures.items():
            if value >= self.config.hot_c:
                self._hot.add(joint)
            elif value < self.config.cool_c:
                self._hot.discard(joint)
        return [f"{joint} is hot ({state.temperatures.get(joint, 0):.0f} °C)" for joint in sorted(self._hot)]

    def _voltage(self, state: ArmState) -> list[str]:
        low, high = self.config.voltage_min_v, self.config.voltage_max_v
        wrong = {joint: value for joint, value in state.voltages.items() if not low <= value <= high}
        return [f"{joint} gets {value:.1f} V, expected {low:g} to {high:g} V" for joint, value in wrong.items()]
