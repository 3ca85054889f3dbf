"""The traces that a thread is in, outermost first: known here, so that who asks need not load what makes them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arraydiff.exact.trace import Trace

_local = threading.local()


def running() -> list[Trace]:
    """Of this thread; the list itself."""
    try:
        traces: list[Trace] = _local.traces
    except AttributeError:
        traces = _local.traces = []
    return traces
