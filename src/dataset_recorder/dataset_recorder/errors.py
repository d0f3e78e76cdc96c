# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a recording, each with a sentence for the operator."""


class RecordingError(RuntimeError):
    """A bag cannot be written or read; what was recorded before stays on disk."""
