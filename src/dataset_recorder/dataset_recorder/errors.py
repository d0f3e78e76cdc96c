# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with recording and playing, each with a sentence for the operator."""


class PlaybackError(RuntimeError):
    """A bag cannot be played to its end."""


class RecordingError(RuntimeError):
    """A bag cannot be written or read; what was recorded before stays on disk."""
