# SPDX-License-Identifier: Apache-2.0
class Report:
    name, text = "report", "later"

    def add_arguments(self, parser):
        pass

    def run(self, options):
        return 0
