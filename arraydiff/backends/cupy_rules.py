"""Which kernel of CuPy is which function of NumPy; by identity, and only of a CuPy that the process has imported.

CuPy has no ``__array_ufunc__``, but before a kernel reads memory it asks each argument for
``__cupy_override_elementwise_kernel__`` (reductions: ``__cupy_override_reduction_kernel__``), as cupyx.distributed does.  The
hook is undocumented: a test holds its names to the installed CuPy, and without it f raises TypeError, which is a refusal.
"""

from __future__ import annotations

import sys
from typing import Any

HOOKS = ("__cupy_override_elementwise_kernel__", "__cupy_override_reduction_kernel__")
PRIVATE = {"cupy_where": ("cupy._sorting.search", "_where_ufunc", "where")}
"""Kernels behind public functions that are no ufuncs: module, name, operation."""


def operation_of(kernel: Any) -> str | None:
    """The name of a kernel among the operations; None of one that is unknown."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return None
    full = str(getattr(kernel, "name", ""))
    if full in PRIVATE:
        module, name, operation = PRIVATE[full]
        return operation if getattr(sys.modules.get(module), name, None) is kernel else None
    name = full.removeprefix("cupy_")
    return name if getattr(cupy, name, None) is kernel else None
