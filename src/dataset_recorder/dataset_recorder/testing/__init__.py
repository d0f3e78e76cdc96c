# SPDX-License-Identifier: Apache-2.0
"""For tests and benchmarks only: made-up bags, and datasets as others wrote them."""
