# SPDX-License-Identifier: Apache-2.0
"""Six servos on a serial device: an emulator of the arm's bus that knows nothing of the driver."""
