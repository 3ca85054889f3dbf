"""How much memory a derivative may take beside what it returns and one call of f, and what fits in it."""

from __future__ import annotations

import re
from numbers import Integral, Real
from typing import Any

from arraydiff.backends import Backend

SHARE = 0.5
"""Of what is free, where the user says nothing: others live here too."""

UNKNOWN = 2**30
"""Bytes, where nobody tells what is free."""

BY_HEART = 2**26
"""Bytes that may always be taken: asking the system what is free takes longer than using them."""

LEAST = 1024
"""Bytes: less is no memory, and what lies between 0 and 1 is a fraction."""

SIZES = re.compile(r"\s*(\d+(?:\.\d*)?(?:e\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

WANTED = "wants bytes, a text such as '512 MB' or '2 GiB', or a fraction of what is free between 0 and 1"


def in_bytes(text: str) -> int | None:
    """'512 MB' as a number; None where it is no size."""
    found = SIZES.fullmatch(text)
    if found is None:
        return None
    number, prefix, binary = found.groups()
    unit = (1024 if binary else 1000) ** POWERS[prefix.lower()]
    return round(float(number) * unit) or None


def not_a_size(value: Any) -> str | None:
    """What is wanted instead of `value`, or None where it will do."""
    if isinstance(value, str):
        return None if in_bytes(value) else WANTED
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        return WANTED
    if value >= LEAST or (value <= 1 and not isinstance(value, Integral)):
        return None
    return f"{WANTED}; so few bytes hold nothing"


def budget(backend: Backend, max_memory: Any) -> int:
    """Bytes that may be taken beside what is returned."""
    if isinstance(max_memory, str):
        size = in_bytes(max_memory)
        assert size is not None  # the config has checked it
        return size
    if max_memory is not None and max_memory >= LEAST:
        given: int = round(max_memory)
        return given
    free = backend.free_memory()
    return UNKNOWN if free is None else round(free * (SHARE if max_memory is None else max_memory))


def room(backend: Backend, max_memory: Any, size: int) -> int:
    """Bytes that may be taken by who wants `size`: the system is asked where that is not known by heart."""
    return BY_HEART if max_memory is None and size <= BY_HEART else budget(backend, max_memory)


def exceeds(backend: Backend, max_memory: Any, size: int) -> bool:
    """Whether `size` bytes are more than may be taken; where values come later nobody can tell, and all may."""
    return not backend.deferred and size > room(backend, max_memory, size)


def told(size: float) -> str:
    """Bytes as people say them."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if size >= 1000**power:
            return f"{size / 1000**power:.3g} {unit}"
    return f"{size:.0f} bytes"
