"""Backends that other packages bring along, as entry points of the group ``arraydiff.backends``."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING

from arraydiff.backends.base import Backend

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "arraydiff.backends"


@cache
def registered() -> tuple[type[Backend], ...]:
    """Those that load; the packages of the others are named in a warning each, once."""
    from importlib.metadata import entry_points  # only where no backend of ours serves

    loaded = [_loaded(entry) for entry in entry_points(group=GROUP)]
    return tuple(kind for kind in loaded if kind is not None)


def _loaded(entry: EntryPoint) -> type[Backend] | None:
    package = entry.dist.name if entry.dist is not None else entry.value
    try:
        kind = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Backend)):
            raise TypeError(f"{entry.value} must name a subclass of arraydiff.backends.Backend, got {kind!r}")
    except Exception as error:  # noqa: BLE001 - a broken package costs its own arrays only
        warnings.warn(
            f"the array backend {entry.name!r} of the package {package!r} does not load ({type(error).__name__}: {error}); "
            f"its arrays go without it: update or remove {package}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return kind
