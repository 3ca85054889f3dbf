"""The table of derivatives: a line an operation, t standing for a tangent or a cotangent, y for the result.

A rule is read in both modes, so it is linear in t and holds for complex numbers as well.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from arraydiff.backends import raw
from arraydiff.exact.arrays import inverse, unbroadcast, zeros_like
from arraydiff.exact.primitives import Concatenation, Elementwise, Linear, Rule, Smooth, library
from arraydiff.exact.trace import ops, plain, prim, refuse

LN2, LN10 = math.log(2.0), math.log(10.0)
MANY = 1 << 30  # arguments of a concatenation

# ---- elementwise: t -> d·t as a function of (t, result, arguments)


def elementwise(name: str, *rules: Rule | None, compute: Callable[..., Any] | None = None, **facts: Any) -> None:
    """Add a line to the table; `kinks` comes with words for where."""
    computed = compute or library(name, pair=len(rules) > 1)
    made = Elementwise(name, computed, rules, **facts)
    setattr(ops, name, made)
    setattr(prim, name, made)


def _zero_unless(c: Any, t: Any) -> Any:
    return prim.where(c, t, 0.0)


def _larger_gets(t: Any, x: Any, y: Any) -> Any:
    """All of t where x > y, half of it at a tie, as in JAX."""
    return _zero_unless(plain(x) > plain(y), t) + _zero_unless(plain(x) == plain(y), t * 0.5)


def _power_in_x(t: Any, x: Any, y: Any) -> Any:
    if type(y) in (int, float):
        return 2 * t * x if y == 2 else t * 0 if y == 0 else t * (y * x ** (y - 1))
    zero = plain(y) == 0
    return _zero_unless(~zero, t * y * x ** prim.where(zero, 1.0, y - 1))


def _log_of_base(x: Any) -> Any:
    """The logarithm; 0 of 0, which is 0 to any power beside."""
    return ops.log(prim.where(plain(x) == 0, 1.0, x)) if type(x) not in raw.NUMBERS else math.log(x) if x > 0 else (
        ops.log(raw.numpy_number(x or 1.0)))  # fmt: skip


def _equal(_out: Any, x: Any, y: Any) -> Any:
    return x == y


def _at_zero(_out: Any, x: Any) -> Any:
    return x == 0


elementwise("negative", lambda t, y, x: -t, compute=operator.neg, uses_values=False)
elementwise("positive", lambda t, y, x: t, compute=operator.pos, uses_values=False)
elementwise("add", lambda t, z, x, y: t, lambda t, z, x, y: t, compute=operator.add, uses_values=False)
elementwise("subtract", lambda t, z, x, y: t, lambda t, z, x, y: -t, compute=operator.sub, uses_values=False)
elementwise("multiply", lambda t, z, x, y: t * y, lambda t, z, x, y: t * x, compute=operator.mul)
elementwise("divide", lambda t, z, x, y: t / y, lambda t, z, x, y: -t * z / y, compute=operator.truediv)
elementwise(
    "pow",
    lambda t, z, x, y: _power_in_x(t, x, y),
    lambda t, z, x, y: t * z * _log_of_base(x),
    compute=operator.pow,
)
elementwise(
    "remainder", lambda t, z, x, y: t, lambda t, z, x, y: -t * ops.floor_divide(x, y), compute=operator.mod,
    words="at a jump", kinks=lambda z, x, y: z == 0,
)  # fmt: skip
elementwise("fmod", lambda t, z, x, y: t, lambda t, z, x, y: -t * ops.trunc(x / y))
TIE: dict[str, Any] = {"words": "at a tie", "kinks": _equal}
elementwise("maximum", lambda t, z, x, y: _larger_gets(t, x, y), lambda t, z, x, y: _larger_gets(t, y, x), **TIE)
elementwise("minimum", lambda t, z, x, y: _larger_gets(t, y, x), lambda t, z, x, y: _larger_gets(t, x, y), **TIE)
elementwise("where", None, lambda t, z, c, x, y: _zero_unless(c, t), lambda t, z, c, x, y: prim.where(c, 0.0, t),
            compute=library("where", pair=True))  # fmt: skip
elementwise("atan2", lambda t, z, x, y: t * y / (x * x + y * y), lambda t, z, x, y: -t * x / (x * x + y * y))
elementwise("hypot", lambda t, z, x, y: t * x / z, lambda t, z, x, y: t * y / z)
elementwise("logaddexp", lambda t, z, x, y: t * ops.exp(x - z), lambda t, z, x, y: t * ops.exp(y - z))
elementwise("logaddexp2", lambda t, z, x, y: t * ops.exp2(x - z), lambda t, z, x, y: t * ops.exp2(y - z))
elementwise("copysign", lambda t, z, x, y: t * ops.copysign(1.0, y) * ops.sign(x), lambda t, z, x, y: t * 0)
elementwise("exp", lambda t, y, x: t * y)
elementwise("exp2", lambda t, y, x: t * y * LN2)
elementwise("expm1", lambda t, y, x: t * ops.exp(x))
elementwise("log", lambda t, y, x: t / x)
elementwise("log1p", lambda t, y, x: t / (1 + x))
elementwise("log2", lambda t, y, x: t / (x * LN2))
elementwise("log10", lambda t, y, x: t / (x * LN10))
elementwise("sqrt", lambda t, y, x: 0.5 * t / y)
elementwise("cbrt", lambda t, y, x: t / (3 * y * y))
elementwise("square", lambda t, y, x: t * x * 2)
elementwise("reciprocal", lambda t, y, x: -t * y * y)
elementwise("sin", lambda t, y, x: t * ops.cos(x))
elementwise("cos", lambda t, y, x: -t * ops.sin(x))
elementwise("tan", lambda t, y, x: t * (1 + y * y))
elementwise("asin", lambda t, y, x: t / ops.sqrt((1 - x) * (1 + x)))
elementwise("acos", lambda t, y, x: -t / ops.sqrt((1 - x) * (1 + x)))
elementwise("atan", lambda t, y, x: t / (1 + x * x))
elementwise("sinh", lambda t, y, x: t * ops.cosh(x))
elementwise("cosh", lambda t, y, x: t * ops.sinh(x))
elementwise("tanh", lambda t, y, x: t * ((1 - y) * (1 + y)))
elementwise("asinh", lambda t, y, x: t / ops.sqrt(x * x + 1))
elementwise("acosh", lambda t, y, x: t / (ops.sqrt(x - 1) * ops.sqrt(x + 1)))
elementwise("atanh", lambda t, y, x: t / ((1 - x) * (1 + x)))
elementwise("abs", lambda t, y, x: t * ops.sign(x), compute=abs, words="at 0", kinks=_at_zero)

# ---- linear: the operation, and its transpose as a function of (g, result, arguments)


def linear(name: str, compute: Callable[..., Any], *rules: Rule, **facts: Any) -> None:
    """Add an operation that is its own forward rule; of one array, the transpose asks its shape alone."""
    setattr(prim, name, Linear(name, compute, rules, **{"asks_shapes": len(rules) == 1} | facts))


def smooth(name: str, compute: Callable[..., Any], *rules: Rule, **facts: Any) -> None:
    """Add an operation by its forward rule alone."""
    setattr(prim, name, Smooth(name, compute, rules, **facts))


def _spread(g: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """The cotangent of a reduction, of a shape that broadcasts to x."""
    if axis is None:
        return prim.reshape(g, ()) if keepdims else g
    if keepdims:
        return g
    axes = {a % len(x.shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
    return prim.reshape(g, tuple(1 if i in axes else s for i, s in enumerate(x.shape)))


def _scattered(x: Any, index: Any, shape: tuple[int, ...]) -> Any:
    into = raw.zeros(shape, x.dtype, x)
    if not raw.add_at(into, index, x):
        refuse("x[i] with an array of indices, in a library without a way to add at indices")
    return into


def _shifted(x: Any, axis: int) -> Any:
    return prim.flip(prim.cumulative_sum(prim.flip(x, axis=axis), axis=axis), axis=axis)


def _product_transposed(g: Any, x: Any, y: Any, k: int) -> Any:
    c = prim.matmul(g, ops.matrix_transpose(y)) if k == 0 else prim.matmul(ops.matrix_transpose(x), g)
    return unbroadcast(c, c.shape, (x, y)[k].shape)


def _solved_transposed(g: Any, a: Any, b: Any) -> Any:
    c = prim.solve(ops.matrix_transpose(a), g)
    return unbroadcast(c, c.shape, b.shape)


def _solved_in_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    c = -prim.matmul(prim.solve(ops.matrix_transpose(a), g), ops.matrix_transpose(y))
    return unbroadcast(c, c.shape, a.shape)


def _of_complex(name: str) -> Callable[..., Any]:
    compute = library(name, "fft")
    return lambda x, axis=-1: compute(raw.as_complex(x), axis=axis)


def _einsum_transposed(k: int) -> Rule:
    def rule(g: Any, _out: Any, *operands: Any, subscripts: str) -> Any:
        inputs, to = subscripts.split("->")
        terms = inputs.split(",")
        mine, x, rest = terms[k], operands[k], terms[:k] + terms[k + 1 :]
        known = set(to) | set("".join(rest))
        lost = [letter for letter in dict.fromkeys(mine) if letter not in known]  # summed over, in x alone
        like = plain(x)
        sizes = dict(zip(mine, x.shape, strict=True))
        ones = [raw.zeros((sizes[letter],), like.dtype, like) + 1 for letter in lost]
        unique = "".join(dict.fromkeys(mine))
        spec = ",".join([to, *rest, *lost]) + "->" + unique
        c = prim.einsum(g, *operands[:k], *operands[k + 1 :], *ones, subscripts=spec)
        return c if unique == mine else _on_diagonal(c, mine, unique, x.shape)

    return rule


def _on_diagonal(c: Any, mine: str, unique: str, shape: tuple[int, ...]) -> Any:
    """An index that occurs twice in one operand reads a diagonal: its transpose writes there."""
    space, like = raw.namespace_of(plain(c)), plain(c)
    places = {
        letter: space.reshape(raw.counted(s, like), tuple(s if j == i else 1 for j in range(len(unique))))
        for i, (letter, s) in enumerate(zip(unique, like.shape, strict=True))
    }
    return prim.scatter(c, tuple(places[letter] for letter in mine), shape=shape)


linear("sum", raw.total, lambda g, y, x, axis=None, keepdims=False: _spread(g, x, axis, keepdims))
linear("reshape", raw.reshape, lambda g, y, x, shape: prim.reshape(g, x.shape), takes_view=True)
linear(
    "permute_dims", library("permute_dims"), lambda g, y, x, axes: prim.permute_dims(g, inverse(axes)), takes_view=True
)
linear(
    "broadcast_to", library("broadcast_to"), lambda g, y, x, shape: unbroadcast(g, y.shape, x.shape), takes_view=True
)
linear("getitem", raw.getitem, lambda g, y, x, index: prim.scatter(g, index, shape=x.shape), takes_view=True)
linear("scatter", _scattered, lambda g, y, x, index, shape: prim.getitem(g, index))
linear("setitem", lambda x, value, index: raw.setitem(x, index, value),
       lambda g, y, x, value, index: prim.setitem(g, 0.0, index=index),
       lambda g, y, x, value, index: unbroadcast(prim.getitem(g, index), y[index].shape, value.shape),
       forward={0: lambda t, y, x, value, index: prim.setitem(t, 0.0, index=index),
                1: lambda t, y, x, value, index: prim.setitem(zeros_like(y), t, index=index)}, asks_shapes=True)  # fmt: skip
linear("flip", library("flip"), lambda g, y, x, axis: prim.flip(g, axis=axis), takes_view=True)
linear("cumulative_sum", library("cumulative_sum"), lambda g, y, x, axis: _shifted(g, axis))
linear("astype", lambda x, dtype: raw.namespace_of(x).astype(x, dtype) if not raw.is_number(x) else x.astype(dtype),
       lambda g, y, x, dtype: prim.astype(g, x.dtype) if is_wider(g, x) else g)  # fmt: skip
linear("real", library("real"), lambda g, y, x: g, takes_view=True)
linear("imag", library("imag"), lambda g, y, x: g * -1j, takes_view=True)
linear("conj", library("conj"), lambda g, y, x: prim.conj(g))
linear("tril", library("tril"), lambda g, y, x, k=0: prim.tril(g, k=k))
linear("triu", library("triu"), lambda g, y, x, k=0: prim.triu(g, k=k))
linear("matmul", operator.matmul, lambda g, z, x, y: _product_transposed(g, x, y, 0),
       lambda g, z, x, y: _product_transposed(g, x, y, 1))  # fmt: skip
linear("sparse_matmul", lambda x, matrix: matrix @ x, lambda g, y, x, matrix: prim.sparse_matmul(g, matrix=matrix.T))
linear("einsum", lambda *x, subscripts: raw.namespace_of(*x).einsum(subscripts, *x), *map(_einsum_transposed, range(8)))
linear("fft", _of_complex("fft"), lambda g, y, x, axis=-1: prim.fft(g, axis=axis))
linear("ifft", _of_complex("ifft"), lambda g, y, x, axis=-1: prim.ifft(g, axis=axis))
linear("solve", library("solve", "linalg"), lambda g, y, a, b: _solved_in_a(g, y, a, b),
       lambda g, y, a, b: _solved_transposed(g, a, b),
       forward={0: lambda t, y, a, b: -prim.solve(a, prim.matmul(t, y))})  # fmt: skip
prim.concat = Concatenation("concat", lambda *x, axis: raw.namespace_of(*x).concat(x, axis=axis), (), arrays=MANY,
                            uses_values=False, asks_shapes=True)  # fmt: skip


def is_wider(g: Any, x: Any) -> bool:
    """Whether a cotangent goes back to a real argument's dtype: a complex one loses its imaginary part in the sweep."""
    return g.dtype != x.dtype and raw.kind(g.dtype) == raw.kind(x.dtype)


# ---- smooth: the forward rule (t, result, arguments), transposed by tracing it


def _hits(y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Where an extreme is taken on."""
    return x == (y if keepdims or axis is None else raw.namespace_of(y).expand_dims(y, axis=axis))


def _tied(y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    space, hits = raw.namespace_of(x), _hits(y, x, axis, keepdims)
    return hits & (space.sum(space.astype(hits, x.dtype), axis=axis, keepdims=True) > 1)


def _extreme(t: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """Of max and min: those that tie share the derivative, as in JAX."""
    y = plain(y)
    hits = _hits(y, plain(x), axis, keepdims)
    space = raw.namespace_of(y)
    ties = space.sum(space.astype(hits, y.dtype), axis=axis, keepdims=keepdims)
    return prim.sum(_zero_unless(hits, t), axis=axis, keepdims=keepdims) / ties


def _lower(t: Any) -> Any:
    """What LAPACK reads of a Hermitian matrix."""
    return prim.tril(t, k=0) + prim.conj(ops.matrix_transpose(prim.tril(t, k=-1)))


def _rotated(t: Any, v: Any) -> Any:
    return prim.matmul(prim.matmul(prim.conj(ops.matrix_transpose(v)), _lower(t)), v)


def _packed_eigh(a: Any) -> Any:
    """Eigenvalues in the first row, eigenvectors below: one array, so that a node has one result."""
    space = raw.namespace_of(a)
    w, v = space.linalg.eigh(a)
    return space.concat([w[..., None, :] + 0 * v[..., :1, :], v], axis=-2)


def _eigh(t: Any, y: Any, a: Any) -> Any:
    w, v = ops.real(y[..., 0, :]), y[..., 1:, :]
    m, gap = _rotated(t, v), w[..., None, :] - w[..., :, None]
    space, n = raw.namespace_of(plain(w)), w.shape[-1]
    eye = space.eye(n, device=raw.device(plain(w))) == 1
    bare = plain(gap)
    if raw.any_of((abs(bare) < SAME_EIGENVALUE * space.max(abs(plain(w)))) & ~eye):
        refuse("eigenvectors of (nearly) equal eigenvalues, which have no derivative")
    dv = prim.matmul(v, _zero_unless(~eye, m) / prim.where(eye, 1.0, gap))
    dw = ops.on_diagonal(m, 0, -2, -1)
    return prim.concat(dw[..., None, :] + 0 * dv[..., :1, :], dv, axis=-2)


SAME_EIGENVALUE = 1e-10
"""Of the largest: below, the derivative of an eigenvector has fewer than half of its digits."""


def _cholesky(t: Any, y: Any, a: Any) -> Any:
    """Murray, arXiv:1602.07527, eq. 8."""
    half = prim.solve(y, prim.conj(ops.matrix_transpose(prim.solve(y, _lower(t)))))
    return prim.matmul(y, prim.tril(half, k=0) - 0.5 * prim.tril(prim.triu(half, k=0), k=0))


def _pseudo_inverse(t: Any, y: Any, a: Any) -> Any:
    """Of constant rank: Golub & Pereyra, SIAM J. Numer. Anal. 10 (1973) 413, eq. 4.12."""
    th, yh, mm = ops.adjoint(t), ops.adjoint(y), prim.matmul
    beyond = mm(mm(y, yh), th - mm(mm(th, a), y)) + mm(th - mm(mm(y, a), th), mm(yh, y))
    return beyond - mm(mm(y, t), y)


def _singular_values(t: Any, y: Any, a: Any) -> Any:
    """From the eigenvectors of aᵀa, which differentiate in turn: v, then u = a v / s; of the smaller of aᵀa and a aᵀ."""
    if a.shape[-2] < a.shape[-1]:
        return _singular_values(ops.adjoint(t), y, ops.adjoint(a))
    v = prim.flip(prim.eigh(prim.matmul(ops.adjoint(a), a))[..., 1:, :], axis=-1)[..., :, : y.shape[-1]]
    u = prim.matmul(a, v) / y[..., None, :]
    return ops.real(ops.on_diagonal(prim.matmul(prim.matmul(ops.adjoint(u), t), v), 0, -2, -1))


def _packed_svd(a: Any) -> Any:
    """Left singular vectors, and below them the right ones."""
    space = raw.namespace_of(a)
    u, _, vh = space.linalg.svd(a, full_matrices=False)
    return space.concat([u, space.matrix_transpose(vh)], axis=-2)


def _svd(t: Any, y: Any, a: Any) -> Any:
    """Of real matrices: Townsend, Differentiating the singular value decomposition (2016), eq. 13 and 14."""
    m, mm, turned = a.shape[-2], prim.matmul, ops.matrix_transpose
    u, v = y[..., :m, :], y[..., m:, :]
    s = ops.sum(mm(a, v) * u, axis=-2)
    bare, space = plain(s), raw.namespace_of(plain(s))
    eye = space.eye(bare.shape[-1], device=raw.device(bare)) == 1
    gap, size = abs(bare[..., None, :] - bare[..., :, None]), space.max(bare)
    if raw.any_of((gap < SAME_EIGENVALUE * size) & ~eye) or raw.any_of(bare < SAME_EIGENVALUE * size):
        refuse("singular vectors of (nearly) equal or zero singular values, which have no derivative")
    row, column, moved = s[..., None, :], s[..., :, None], mm(mm(turned(u), t), v)
    apart = prim.where(eye, 1.0, row * row - column * column)
    du = mm(u, _zero_unless(~eye, moved * row + column * turned(moved)) / apart)
    dv = mm(v, _zero_unless(~eye, column * moved + turned(moved) * row) / apart)
    tv, tu = mm(t, v) / row, mm(turned(t), u) / row
    return prim.concat(du + (tv - mm(u, mm(turned(u), tv))), dv + (tu - mm(v, mm(turned(v), tu))), axis=-2)


def _packed_qr(a: Any) -> Any:
    space = raw.namespace_of(a)
    q, r = space.linalg.qr(a)
    return space.concat([q, r], axis=-2)


def _qr(t: Any, y: Any, a: Any) -> Any:
    """Of full column rank: Walter & Lehmann, Algorithmic differentiation of linear algebra functions (2012), section 3.3."""
    m, mm, turned = a.shape[-2], prim.matmul, ops.matrix_transpose
    q, r = y[..., :m, :], y[..., m:, :]
    beyond = turned(prim.solve(turned(r), turned(t)))  # t r⁻¹
    inside = mm(turned(q), beyond)
    below = prim.tril(inside, k=-1)
    turn = below - turned(below)
    return prim.concat(mm(q, turn - inside) + beyond, mm(inside - turn, r), axis=-2)


def _trace(a: Any) -> Any:
    return prim.sum(ops.on_diagonal(a, 0, -2, -1), axis=-1)


EXTREME: dict[str, Any] = {"words": "at a tie", "kinks": lambda y, x, axis, keepdims: _tied(y, x, axis, keepdims)}
smooth("max", library("max"), _extreme, **EXTREME)
smooth("min", library("min"), _extreme, **EXTREME)
smooth("pinv", library("pinv", "linalg"), _pseudo_inverse)
smooth("svd", _packed_svd, _svd)
smooth("qr", _packed_qr, _qr)
smooth("svdvals", library("svdvals", "linalg"), _singular_values)
smooth("inv", library("inv", "linalg"), lambda t, y, a: -prim.matmul(prim.matmul(y, t), y))
smooth("det", library("det", "linalg"), lambda t, y, a: _trace(prim.solve(a, t)) * y)
smooth("logabsdet", lambda a: raw.sign_and_logabsdet(a)[1], lambda t, y, a: ops.real(_trace(prim.solve(a, t))))
smooth("cholesky", library("cholesky", "linalg"), _cholesky)
smooth("eigh", _packed_eigh, _eigh)
smooth("eigvalsh", library("eigvalsh", "linalg"),
       lambda t, y, a: ops.real(ops.on_diagonal(_rotated(t, prim.eigh(a)[..., 1:, :]), 0, -2, -1)))  # fmt: skip
