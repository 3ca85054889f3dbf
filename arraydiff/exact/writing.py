"""Writing in place: into an array, what it is a view of, and the views of that."""

from __future__ import annotations

from typing import Any

from arraydiff.exact.arrays import inverse
from arraydiff.exact.primitives import Rule
from arraydiff.exact.trace import Tracer, prim, refuse

PUT: dict[str, Rule] = {
    "getitem": lambda into, new, index: prim.setitem(into, new, index=index),
    "reshape": lambda into, new, shape: prim.reshape(new, into.shape),
    "permute_dims": lambda into, new, axes: prim.permute_dims(new, inverse(axes)),
}
"""How what is written into a view stands in the array that it is a view of."""


def assign(target: Tracer, new: Any) -> Tracer:
    """Write into an array, and so into every array that it is a view of, and into every view of those."""
    if new.shape != target.shape or new.dtype != target.dtype:
        refuse("a write in place that changes shape or dtype", target, new)
    changes, one = [(target, new)], target
    while one.alias is not None and (parent := one.alias.parent) is not None:
        primitive, rest, options = one.alias.take
        put = PUT.get(primitive.name)
        if put is None:
            refuse(f"a write through {primitive.name}", target, new)
        one, new = parent, put(parent, new, *rest, **options)
        changes.append((one, new))
    if one.alias is not None:
        if one.alias.memory.locked:
            refuse(f"a write into {one.alias.memory.locked}", target, new)
        one.alias.memory.version += 1
    for one, new in changes:
        one.home, one.value, one.node = new.home, new.value, new.node
        if one.alias is not None:
            one.alias.version = one.alias.memory.version
    return target
