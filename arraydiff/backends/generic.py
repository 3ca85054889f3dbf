"""Whatever else speaks the array API standard, as far as it does."""

from __future__ import annotations

from dataclasses import dataclass

from arraydiff._typing import Array
from arraydiff.backends.base import Backend


@dataclass(frozen=True)
class GenericBackend(Backend):
    """Arrays that tell their namespace; the defaults serve them."""

    @classmethod
    def owns(cls, array: Array) -> bool:
        return hasattr(array, "__array_namespace__")
