"""A tape whose operations are done again with other roundings: how far its derivatives move is how far rounding moves them.

Parker, Monte Carlo arithmetic, UCLA CSD-970002 (1997); Vignes, Math. Comput. Simul. 35 (1993) 233.  Results are displaced by
a few eps, and of operations that sum their operands those too, so that what cancels within a sum is seen as well.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from arraydiff.backends import raw
from arraydiff.backends.displaced import Displacer
from arraydiff.exact.primitives import Elementwise, Primitive
from arraydiff.exact.sweeps import RUNNING, rounded
from arraydiff.exact.trace import Trace, Tracer

EXACT = frozenset({
    "reshape", "permute_dims", "broadcast_to", "getitem", "setitem", "scatter", "real", "imag", "conj", "tril", "triu", "concat",
    "flip", "negative", "positive", "abs", "maximum", "minimum", "max", "min", "where", "astype",
})  # fmt: skip
"""Operations that round nothing."""


def shaken(trace: Trace, root: Tracer, out: Tracer, shake: Displacer, *, keep: bool) -> tuple[Trace, Tracer, Tracer]:
    """The same tape, done again, in place of the first without `keep`; what branches asked of values stays as it was."""
    assert trace.tape is not None
    again = Trace(reverse=True)
    again.live, again.held = False, trace.held
    assert again.tape is not None
    fresh: dict[int, Any] = {root.node: root.value}
    for node in sorted(trace.tape):
        primitive, nodes, values, _, options = trace.tape[node] if keep else trace.tape.pop(node)
        operands = [value if source is None else fresh[source] for source, value in zip(nodes, values, strict=True)]
        made = _again(primitive, nodes, operands, options, shake)
        again.tape[node] = (primitive, nodes, operands, made, options)
        fresh[node] = made
    return again, Tracer(again, root.value, root.node, None), Tracer(again, fresh[out.node], out.node, None)


def _again(primitive: Primitive, nodes: Any, operands: list[Any], options: dict[str, Any], shake: Displacer) -> Any:
    if primitive.name in EXACT:
        return primitive.evaluate(*operands, **options)
    if primitive.name == RUNNING:
        made = primitive.evaluate(*operands, **options)
        return rounded(primitive.name, shake, made, partial(primitive.evaluate, **options))
    if not isinstance(primitive, Elementwise):
        operands = [one if source is None else shake(one) for source, one in zip(nodes, operands, strict=True)]
    made = primitive.evaluate(*operands, **options)
    return shake(raw.numpy_number(made) if type(made) in raw.NUMBERS else made)
