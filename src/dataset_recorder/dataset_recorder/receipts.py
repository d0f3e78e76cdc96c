# SPDX-License-Identifier: Apache-2.0
"""Which steps are safe in a bag, so that the actor's spool need not keep them: for a system that has no learner."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from hilserl_interfaces.msg import StepAck


@dataclass
class _Run:
    file: Path
    through: int
    taken: set[int] = field(default_factory=set)  # in the hands of a bag
    kept: set[int] = field(default_factory=set)  # safe, but one before it is not


class Receipts:
    """Steps by run and sequence number: new, taken by a bag, kept.

    A step is kept once the operating system has its bytes, which outlive a killed recorder but not a power cut; or once nobody
    wants it, as its episode was discarded. How far the steps of a run are kept without a gap stands in a file beside its bags,
    for a recorder that is started anew.
    """

    def __init__(self, folder: Path) -> None:
        """folder: of all bags."""
        self._folder = folder
        self._runs: dict[str, _Run] = {}
        self._newest = ""

    def is_new(self, run_id: str, sequence: int) -> bool:
        """Whether a step is to be recorded: no bag has it, or the bag that took it failed."""
        run, self._newest = self._run(run_id), run_id
        return sequence > run.through and sequence not in run.taken and sequence not in run.kept

    def take(self, run_id: str, sequence: int) -> None:
        """A bag has taken a step, but may still lose it."""
        self._run(run_id).taken.add(sequence)

    def lose(self, run_id: str, sequence: int) -> None:
        """A bag has lost a step that it had taken: it is new when it comes again."""
        self._run(run_id).taken.discard(sequence)

    def keep(self, run_id: str, sequence: int) -> None:
        """A step is safe."""
        run = self._run(run_id)
        run.taken.discard(sequence)
        run.kept.add(sequence)
        while run.through + 1 in run.kept:
            run.through += 1
            run.kept.remove(run.through)

    def lacking(self, run_id: str, last: int) -> int:
        """How many of the steps up to `last` have not come."""
        run = self._run(run_id)
        return max(0, last - run.through - sum(number <= last for number in run.taken | run.kept))

    def acknowledgement(self) -> StepAck | None:
        """What to answer to the run that sent last; None before there is anything to say. Raises OSError (full disk)."""
        run = self._runs.get(self._newest)
        if run is None or run.through == 0:
            return None
        run.file.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(run.file, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(file, b"%020d\n" % run.through, 0)  # in place and in one piece: whole after a kill
        finally:
            os.close(file)
        held = run.taken | run.kept
        missing = [number for number in range(run.through + 1, max(held, default=0)) if number not in held]
        # Nothing trains here, so no update is owed for any step.
        return StepAck(run_id=self._newest, received_through=run.through, missing=missing, trained_through=run.through)

    @property
    def begins_late(self) -> tuple[str, int] | None:
        """Run and first step at hand when earlier ones of it will never come: somebody else has acknowledged them."""
        run = self._runs.get(self._newest)
        if run is None or run.through or not run.kept:
            return None
        return self._newest, min(run.kept)

    def _run(self, run_id: str) -> _Run:
        if run_id not in self._runs:
            file = self._folder / run_id / "acknowledged"
            try:
                through = int(file.read_text())
            except (OSError, ValueError):
                through = 0
            self._runs[run_id] = _Run(file, through)
        return self._runs[run_id]
