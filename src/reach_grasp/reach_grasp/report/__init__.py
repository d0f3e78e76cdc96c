# SPDX-License-Identifier: Apache-2.0
"""The report of a run: numbers, plots and one page that holds everything."""
