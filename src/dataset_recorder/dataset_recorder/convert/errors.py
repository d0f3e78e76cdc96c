# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a conversion, each with a sentence for the user."""


class ConversionError(ValueError):
    """The dataset cannot be written; episodes that are finished stay on disk."""


class BagError(ConversionError):
    """A bag is missing, half-written or does not hold what is asked of it."""


class MappingError(ConversionError):
    """The mapping file contradicts its reference, or the bag it is used on."""
