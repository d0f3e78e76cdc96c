# SPDX-License-Identifier: Apache-2.0
import gc
import os
from pathlib import Path

import pytest

from hilserl_ros.realtime import take_precedence


@pytest.fixture(autouse=True)
def _thaw():
    yield
    gc.unfreeze()


def _forbidden(*_):
    raise PermissionError


def test_every_thread_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda thread, policy, _: asked.append((thread, policy)))
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    assert take_precedence() == "real-time priority"
    assert (os.getpid(), os.SCHED_RR) in asked and len(asked) == len(list(Path("/proc/self/task").iterdir()))


def test_what_a_user_may_not_have_is_said_with_the_cure(monkeypatch):
    monkeypatch.setattr(os, "sched_setscheduler", _forbidden)
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
    assert take_precedence().startswith("niceness -10; allow 'rtprio 20'")
    monkeypatch.setattr(os, "setpriority", _forbidden)
    assert take_precedence().startswith("ordinary priority; allow 'rtprio 20'")
