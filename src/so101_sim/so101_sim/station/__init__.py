# SPDX-License-Identifier: Apache-2.0
"""The twin of a station: emulated arms on serial devices, camera streams and keys around one simulated world, in real time."""
