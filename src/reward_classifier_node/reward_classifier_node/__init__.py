# SPDX-License-Identifier: Apache-2.0
"""The reward classifier: trained from labelled episodes, and the node that turns images into rewards."""
