"""Names for what is passed about: arrays of any library, and the trees that hold them."""

from __future__ import annotations

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of any library that speaks the array API standard."""

Namespace: TypeAlias = Any
"""An array API namespace (``xp``)."""

PyTree: TypeAlias = Any
"""An array, or dicts, lists, tuples and named tuples of them, as in JAX."""
