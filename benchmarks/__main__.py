# SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`."""

import sys

from benchmarks.run import main

sys.exit(main())
