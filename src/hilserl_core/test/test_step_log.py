# SPDX-License-Identifier: Apache-2.0
"""The step log keeps every whole record through cuts and full disks."""

import os
import resource
import signal
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilserl_core.step_log import StepLog, StepLogError


def _payload(sequence: int) -> bytes:
    return bytes([sequence % 256]) * (10 + sequence)


def _filled(folder, count: int, segment_records: int = 4) -> StepLog:
    log = StepLog(folder, segment_records)
    for sequence in range(1, count + 1):
        log.append(sequence, _payload(sequence))
    return log


def test_records_survive_reopening(tmp_path):
    _filled(tmp_path, 10).close()
    log = StepLog(tmp_path)
    assert list(log.records()) == [(n, _payload(n)) for n in range(1, 11)]
    assert log.last == 10 and list(log.records(after=8)) == [(9, _payload(9)), (10, _payload(10))]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=400), flip=st.booleans())
def test_a_cut_or_damaged_tail_loses_only_what_stands_behind_it(tmp_path_factory, cut, flip):
    folder = tmp_path_factory.mktemp("log")
    _filled(folder, 8, segment_records=100).close()
    path = next(folder.glob("*.steps"))
    content = bytearray(path.read_bytes())
    place = min(cut, len(content) - 1)
    if flip:
        content[place] ^= 0xFF
    else:
        del content[place:]
    path.write_bytes(content)
    kept, offset = 0, 0
    for n in range(1, 9):
        offset += 20 + len(_payload(n))
        kept = n if offset <= place else kept
    log = StepLog(folder)
    assert log.sequences() == list(range(1, kept + 1))
    log.append(kept + 1, b"again")
    log.close()
    assert StepLog(folder).read(kept + 1) == b"again"


def test_a_slow_disk_does_not_hold_up_whoever_appends(tmp_path, monkeypatch):
    disk, synced = threading.Event(), []

    def slow(file: int) -> None:
        assert disk.wait(20), "the log waited for the disk while appending"
        synced.append(file)

    monkeypatch.setattr(os, "fsync", slow)
    log = _filled(tmp_path, 5)  # the first segment is full
    assert log.last == 5 and not synced
    disk.set()
    log.close()
    assert len(synced) == 2, "both segments are on the disk once the log is closed"


def test_whole_segments_are_deleted_once_acknowledged(tmp_path):
    log = _filled(tmp_path, 10)
    log.drop_through(8)
    assert log.sequences() == [9, 10]
    assert sorted(path.name for path in tmp_path.glob("*.steps")) == ["000000000009.steps"]
    log.drop_through(10)
    assert log.last == 10, "the segment being written must stay, or numbering would start again"


def test_numbers_must_go_up(tmp_path):
    with pytest.raises(ValueError, match="cannot add 3"):
        _filled(tmp_path, 3).append(3, b"")


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_written(tmp_path):
    log = _filled(tmp_path, 3, segment_records=100)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        size = next(tmp_path.glob("*.steps")).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
        with pytest.raises(StepLogError, match=r"cannot write step 4 .* free disk space"):
            log.append(4, b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log.append(4, b"fits now")
    log.close()
    again = StepLog(tmp_path)
    assert again.sequences() == [1, 2, 3, 4] and again.bytes_dropped == 0


def test_an_unusable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StepLogError, match="cannot use the step log"):
        StepLog(tmp_path / "file" / "log")


def test_a_log_in_use_by_another_process_is_refused(tmp_path):
    code = (
        "import sys; from hilserl_core.step_log import StepLog; log = StepLog(sys.argv[1]); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StepLogError, match=r"is in use by another process"):
            StepLog(tmp_path)
        other.kill()
    StepLog(tmp_path)
