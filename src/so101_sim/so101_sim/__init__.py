# SPDX-License-Identifier: Apache-2.0
"""The simulated arm, table, cube and cameras, and the person who stands beside them."""
