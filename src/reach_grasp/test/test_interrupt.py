# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C also counts where Python drops its exception."""

import signal

import pytest

from reach_grasp.interrupt import heed, listen


class Ending:
    """Its destructor is where the signal comes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_was_dropped_is_heeded_in_the_next_turn():
    before = signal.getsignal(signal.SIGINT)
    try:
        listen(signal.SIGINT)
        heed()
        ending = Ending()
        del ending  # and nothing is raised here
        with pytest.raises(KeyboardInterrupt):
            heed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        listen(signal.SIGINT)
        heed()
    finally:
        signal.signal(signal.SIGINT, before)
