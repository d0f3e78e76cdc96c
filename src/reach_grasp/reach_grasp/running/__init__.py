# SPDX-License-Identifier: Apache-2.0
"""Running systems: listened to, shown on the terminal, and filmed."""
