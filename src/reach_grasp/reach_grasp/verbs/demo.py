# SPDX-License-Identifier: Apache-2.0
class Demo:
    name, text = "demo", "later"

    def add_arguments(self, parser):
        pass

    def run(self, options):
        return 0
