# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a classifier; each message is one sentence for the person who runs it."""

from __future__ import annotations


class ClassifierError(ValueError):
    """A classifier, its settings or its artifact that cannot be used."""


class DataError(ClassifierError):
    """Labelled frames that cannot be trained on."""
