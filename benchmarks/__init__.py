# SPDX-License-Identifier: Apache-2.0
"""Our figures against LeRobot's, on the same machine in the same run. See README.md beside this file."""
