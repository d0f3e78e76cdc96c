# SPDX-License-Identifier: Apache-2.0
"""The rehearsal: the whole road of a station, by its own commands, on a twin of the station in real time."""
