# SPDX-License-Identifier: Apache-2.0
"""Looks over a station: arms, cameras, this machine, the network. It changes nothing and moves nothing."""
