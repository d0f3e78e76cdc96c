# SPDX-License-Identifier: Apache-2.0
"""The real SO-101 arm: its servo bus, its calibration, and what every joint command must pass."""
