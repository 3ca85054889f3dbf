"""Composites of products of arrays and linear algebra."""

from __future__ import annotations

import math
from operator import index
from types import SimpleNamespace
from typing import Any

from arraydiff.backends import raw, scipy_rules
from arraydiff.exact.arrays import is_complex
from arraydiff.exact.reductions import UNSET, array, axes_of, both, first_traced, only, op
from arraydiff.exact.trace import ops, plain, prim, refuse

linalg = SimpleNamespace()
"""As `ops`, of the namespace of that name."""


@op
def matmul(a: Any, b: Any, /) -> Any:
    if scipy_rules.is_sparse(a):
        return _sparse_times(a, b)
    if scipy_rules.is_sparse(b):
        return ops.permute_dims(_sparse_times(b.T, ops.permute_dims(a)))
    a, b = both(a, b)
    if a.ndim > 1 and b.ndim > 1:
        return prim.matmul(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("matmul takes arrays with axes; multiply numbers by *")
    out = prim.matmul(a if a.ndim > 1 else a[None, :], b if b.ndim > 1 else b[:, None])
    rows = out.shape[-2:-1] if a.ndim > 1 else ()
    cols = out.shape[-1:] if b.ndim > 1 else ()
    shape = (*out.shape[:-2], *rows, *cols)
    return prim.reshape(out, shape) if shape else out[0, 0]


def _sparse_times(matrix: Any, x: Any) -> Any:
    if not (1 <= x.ndim <= 2 and len(matrix.shape) == 2):
        refuse("a sparse array times a number, or arrays of more than two axes", x)
    return prim.sparse_matmul(x, matrix=scipy_rules.kept(matrix))


@op
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = both(a, b)
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    summed = [
        [index(i) % v.ndim for i in ((ax,) if isinstance(ax, int) else ax)] for ax, v in zip(axes, (a, b), strict=True)
    ]
    kept = [[i for i in range(v.ndim) if i not in s] for v, s in zip((a, b), summed, strict=True)]
    size = math.prod(a.shape[i] for i in summed[0])
    left = prim.reshape(prim.permute_dims(a, (*kept[0], *summed[0])), (-1, size))
    right = prim.reshape(prim.permute_dims(b, (*summed[1], *kept[1])), (size, -1))
    shape = (*(a.shape[i] for i in kept[0]), *(b.shape[i] for i in kept[1]))
    out = prim.matmul(left, right)
    return prim.reshape(out, shape) if shape else out[0, 0]


@op
def dot(a: Any, b: Any, out: Any = None) -> Any:
    only(a, b, out=out)
    if scipy_rules.is_sparse(a) or scipy_rules.is_sparse(b):
        refuse("np.dot of a sparse array, which NumPy takes for a number; write A @ x", a, b)
    a, b = both(a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return ops.matmul(a, b) if b.ndim < 3 and (a.ndim < 3 or b.ndim == 1) else ops.tensordot(a, b, ((-1,), (-2,)))


@op
def inner(a: Any, b: Any, /) -> Any:
    a, b = both(a, b)
    return ops.tensordot(a, b, ((-1,), (-1,))) if a.ndim and b.ndim else a * b


@op
def outer(a: Any, b: Any, out: Any = None) -> Any:
    only(a, b, out=out)
    a, b = both(a, b)
    return prim.reshape(a, (-1, 1)) * prim.reshape(b, (1, -1))


@op
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return ops.sum(ops.conj(x1) * x2, axis=axis)


@op
def vdot(a: Any, b: Any, /) -> Any:
    a, b = both(a, b)
    return ops.dot(ops.conj(ops.ravel(a)), ops.ravel(b))


ops.matvec = lambda a, x: ops.matmul(a, x[..., None])[..., 0]
ops.vecmat = lambda x, a: ops.matmul(ops.conj(x)[..., None, :], a)[..., 0, :]


@op
def kron(a: Any, b: Any) -> Any:
    a, b = both(a, b)
    ndim = max(a.ndim, b.ndim)
    a, b = (prim.reshape(v, (1,) * (ndim - v.ndim) + tuple(v.shape)) for v in (a, b))
    apart = [
        prim.reshape(v, tuple(part for s in v.shape for part in ((s, 1), (1, s))[k])) for k, v in enumerate((a, b))
    ]
    return prim.reshape(apart[0] * apart[1], tuple(s * r for s, r in zip(a.shape, b.shape, strict=True)))


@op
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = both(a, b)
    a, b = ops.moveaxis(a, axisa, -1), ops.moveaxis(b, axisb, -1)
    if (a.shape[-1], b.shape[-1]) != (3, 3):
        refuse("np.cross of other than three components", a, b)
    parts = [a[..., i] * b[..., j] - a[..., j] * b[..., i] for i, j in ((1, 2), (2, 0), (0, 1))]
    return ops.stack(parts, axisc)


@op
def einsum(subscripts: Any, *operands: Any, out: Any = None, optimize: Any = False, **options: Any) -> Any:
    only(*operands, out=out, **options)
    if not isinstance(subscripts, str):
        subscripts, operands = _lettered((subscripts, *operands))
    operands = tuple(array(one, first_traced(operands)) for one in operands)
    spec = _spelled(subscripts.replace(" ", ""), operands)
    return prim.einsum(*operands, subscripts=spec)


def _lettered(args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """operand, indices, operand, indices, ..., indices of the result: with letters for the indices."""
    operands, indices = args[: len(args) // 2 * 2 : 2], args[1::2]
    terms = [
        "".join("..." if i is ... else chr(ord("a") + i) for i in one)
        for one in (*indices, *args[len(args) // 2 * 2 :])
    ]
    return ",".join(terms[: len(operands)]) + "".join(f"->{one}" for one in terms[len(operands) :]), operands


def _spelled(spec: str, operands: Any) -> str:
    """With letters for `...`, and with a result."""
    inputs, arrow, to = spec.partition("->")
    free = [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in spec]
    terms, longest = [], 0
    for term, one in zip(inputs.split(","), operands, strict=True):
        extra = one.ndim - len(term.replace("...", "")) if "..." in term else 0
        longest = max(longest, extra)
        terms.append((term, extra))
    if any(extra not in (0, longest) for term, extra in terms if "..." in term):
        refuse("einsum with `...` of different lengths", *operands)
    letters = "".join(free[:longest])
    if not arrow:
        counted = inputs.replace("...", "").replace(",", "")
        to = letters + "".join(sorted(letter for letter in set(counted) if counted.count(letter) == 1))
    filled = ",".join(term.replace("...", letters if extra else "") for term, extra in terms)
    return f"{filled}->{to.replace('...', letters)}"


def _solve(a: Any, b: Any) -> Any:
    a, b = both(a, b)
    return prim.solve(a, b[:, None])[..., 0] if b.ndim == 1 else prim.solve(a, b)


def _vector_norm(x: Any, order: Any, axis: Any, keepdims: bool) -> Any:
    if order in (None, 2):  # without abs, which has a kink where this has none
        squares = ops.real(x * ops.conj(x)) if is_complex(x) else x * x
        return ops.sqrt(prim.sum(squares, axis=axis, keepdims=keepdims))
    if order == 0:
        refuse("norm of order 0, which counts entries", x)
    lengths = ops.abs(x)
    if order in (math.inf, -math.inf):
        return (prim.max if order > 0 else prim.min)(lengths, axis=axis, keepdims=keepdims)
    if order == 1:
        return prim.sum(lengths, axis=axis, keepdims=keepdims)
    return prim.sum(lengths**order, axis=axis, keepdims=keepdims) ** (1 / order)


def _norm_of_all(x: Any, order: Any, keepdims: bool) -> Any:
    found = _vector_norm(prim.reshape(x, (-1,)), order, None, False)
    return prim.reshape(found, (1,) * x.ndim) if keepdims else found


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x, axis = array(x), axes_of(axis)
    if axis is None and (ord is None or x.ndim == 1):
        return _norm_of_all(x, ord, keepdims)
    if axis is not None and (isinstance(axis, int) or len(axis) == 1):
        return _vector_norm(x, ord, axis, keepdims)
    axis = (-2, -1) if axis is None else axis
    if ord in (None, "fro"):
        return _vector_norm(x, None, axis, keepdims)
    if ord not in ("nuc", 2, -2, 1, -1, math.inf, -math.inf):
        refuse(f"a matrix norm of order {ord!r}", x)
    if keepdims:
        gone = {a % x.ndim for a in axis}
        return prim.reshape(norm(x, ord, axis), tuple(1 if i in gone else s for i, s in enumerate(x.shape)))
    x = ops.moveaxis(x, axis, (-2, -1))
    if ord in ("nuc", 2, -2):
        s = prim.svdvals(x)
        return prim.sum(s, axis=-1) if ord == "nuc" else s[..., 0 if ord == 2 else -1]
    sums = prim.sum(ops.abs(x), axis=-2 if abs(ord) == 1 else -1)
    return (prim.max if ord > 0 else prim.min)(sums, axis=-1, keepdims=False)


def _vector_norm_of_standard(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    return _norm_of_all(x, ord, keepdims) if axis is None else _vector_norm(x, ord, axes_of(axis), keepdims)


def matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        a, n = prim.inv(a), -n
    if n == 0:
        refuse("matrix_power of order 0, which does not depend on the matrix", a)
    out = a
    for _ in range(n - 1):
        out = prim.matmul(out, a)
    return out


def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    only(*arrays, out=out)
    made = arrays[0]
    for one in arrays[1:]:
        made = ops.matmul(made, one)
    return made


def _eigh(a: Any, UPLO: str = "L") -> Any:
    packed = prim.eigh(a if UPLO in "Ll" else ops.adjoint(a))
    return raw.named(
        "EighResult", packed[..., 0, :] if not is_complex(packed) else ops.real(packed[..., 0, :]), packed[..., 1:, :]
    )


def _eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return prim.eigvalsh(a if UPLO in "Ll" else ops.adjoint(a))


def _slogdet(a: Any) -> Any:
    return raw.named("SlogdetResult", raw.sign_and_logabsdet(plain(a))[0], prim.logabsdet(a))


def _cholesky(a: Any, /, *, upper: bool = False) -> Any:
    lower = prim.cholesky(a)
    return ops.adjoint(lower) if upper else lower


def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """With the signs that LAPACK gives the vectors here."""
    only(a, hermitian=hermitian or None)
    if not compute_uv:
        return prim.svdvals(a)
    m, n = a.shape[-2:]
    if is_complex(a) or (full_matrices and m != n):
        refuse("singular vectors of a complex matrix, or more of them than values; pass full_matrices=False", a)
    packed = prim.svd(a)
    return raw.named("SVDResult", packed[..., :m, :], prim.svdvals(a), ops.matrix_transpose(packed[..., m:, :]))


def _qr(a: Any, mode: str = "reduced") -> Any:
    m, n = a.shape[-2:]
    if is_complex(a) or m < n or (mode == "complete" and m != n) or mode not in ("reduced", "complete", "r"):
        refuse("qr of a complex or a wide matrix, or with more columns than those; pass mode='reduced'", a)
    packed = prim.qr(a)
    return packed[..., m:, :] if mode == "r" else raw.named("QRResult", packed[..., :m, :], packed[..., m:, :])


def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = UNSET) -> Any:
    only(a, rcond=rcond, rtol=rtol, hermitian=hermitian or None)
    return prim.pinv(a)


def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """With full column rank; NumPy's residuals are of that case as well."""
    a, b = both(a, b)
    rank = raw.rank(plain(a))
    if rank < a.shape[1]:
        refuse("lstsq of a matrix without full column rank", a, b)
    x = ops.matmul(prim.pinv(a), b)
    apart = ops.matmul(a, x) - b
    left_over = ops.sum(ops.real(apart * ops.conj(apart)), axis=0)
    return x, ops.atleast_1d(left_over), rank, prim.svdvals(a)


def _cond(a: Any, p: Any = None) -> Any:
    if p is not None and p not in (2, -2):
        return norm(a, p, (-2, -1)) * norm(prim.inv(a), p, (-2, -1))
    s = prim.svdvals(a)
    return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]


def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    only(a, b, axes=axes)
    shape = a.shape[b.ndim :]
    return prim.reshape(_solve(prim.reshape(a, (b.size, b.size)), ops.ravel(b)), shape)


def _tensorinv(a: Any, ind: int = 2) -> Any:
    n = math.prod(a.shape[:ind])
    return prim.reshape(prim.inv(prim.reshape(a, (n, -1))), (*a.shape[ind:], *a.shape[:ind]))


vars(linalg).update(
    solve=_solve, inv=prim.inv, det=prim.det, slogdet=_slogdet, cholesky=_cholesky, eigh=_eigh, eigvalsh=_eigvalsh,
    norm=norm, vector_norm=_vector_norm_of_standard, matrix_power=matrix_power, multi_dot=multi_dot, svd=_svd, pinv=_pinv, qr=_qr,
    svdvals=lambda x, /: prim.svdvals(x), lstsq=_lstsq, cond=_cond, tensorsolve=_tensorsolve, tensorinv=_tensorinv,
    matrix_norm=lambda x, /, *, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims),
    trace=lambda x, /, *, offset=0, dtype=None: ops.trace(x, offset, -2, -1, dtype),
    diagonal=lambda x, /, *, offset=0: ops.diagonal(x, offset, -2, -1),
    cross=lambda a, b, /, *, axis=-1: ops.cross(a, b, axis=axis), outer=outer, matmul=matmul, tensordot=tensordot,
    vecdot=vecdot, matrix_transpose=ops.matrix_transpose,
    matrix_rank=lambda a, *args, **options: raw.rank(plain(a)),
)  # fmt: skip
