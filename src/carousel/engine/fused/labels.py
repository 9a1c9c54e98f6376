"""The numbers by which a tracer tells hidden units from each other, those of vectors of different width too.

A unit's number has the width of its vector in its upper bits and its place in the lower ones. That of a segment, some
consecutive units, says there into how many segments the units fall, and is lower than those of its units.
"""

import torch
from torch import Tensor

WIDTH, SEGMENTS = 42, 20
UNIT = 1 << 40
_LOW, _PLACE = (1 << WIDTH) - 1, (1 << SEGMENTS) - 1


def units_of(width: int) -> Tensor:
    """Of a vector so wide; -1 for a single number, which may meet any unit."""
    return (width << WIDTH) + UNIT + torch.arange(width) if width > 1 else torch.tensor([-1])


def segments_of(width: int, count: int) -> Tensor:
    """Of so many segments of equal length; -1 for the whole vector."""
    return (width << WIDTH) + (count << SEGMENTS) + torch.arange(count) if count > 1 else torch.tensor([-1])


def holds(outer: Tensor, inner: Tensor) -> Tensor:
    """Where `outer` is a segment, whether the unit, or the finer segment, `inner` is in it."""
    width, count, place = outer >> WIDTH, (outer & _LOW) >> SEGMENTS, outer & _PLACE
    low = inner & _LOW
    at = torch.where(low >= UNIT, low - UNIT, low & _PLACE)
    of = torch.where(low >= UNIT, width, low >> SEGMENTS).clamp(1)
    segment = (
        (outer >= 0) & (count > 0) & (width == inner >> WIDTH) & (outer & _LOW < UNIT) & (of % count.clamp(1) == 0)
    )
    return segment & (at * count // of == place)
