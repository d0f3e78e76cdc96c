# SPDX-License-Identifier: Apache-2.0
"""The demo: demonstrations, training with interventions, evaluation and report, unattended."""
