# SPDX-License-Identifier: Apache-2.0
"""What the command tells its user in one sentence instead of a traceback."""


class CommandError(RuntimeError):
    """Something the user can mend; the message says what was found and the cure."""
