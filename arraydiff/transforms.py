"""The derivatives of a function as functions, with JAX's names, argument order and structures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout
from arraydiff.batches import Batched
from arraydiff.binding import Bound
from arraydiff.callables import Transform
from arraydiff.config import DifferentiationConfig
from arraydiff.engine import Derivative, Wanted
from arraydiff.options import Options, config_of
from arraydiff.result import DerivativeResult, GradientResult, JacobianResult
from arraydiff.seam import Tape
from arraydiff.strategies.higher import Higher, check_method

__all__ = ["derivative", "grad", "jacfwd", "jacobian", "jacrev", "value_and_grad"]

HIGHEST = 4
"""Order of the derivatives that are taken in one go."""


class Gradient(Transform):
    """What `grad` returns."""

    title, described = "grad", "Gradient"
    result_type = GradientResult
    complex_inputs = True
    repeats = True

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        only_scalar(layout)
        super()._check_output(bound_backend, layout)


def only_scalar(layout: Layout) -> None:
    """Refuse outputs that are not one number.

    Raises
    ------
    TypeError
        They are not.
    """
    leaves = layout.leaves
    if len(leaves) != 1 or (layout.structure is not None and layout.structure.num_nodes != 1):
        kind = getattr(layout.structure.type, "__name__", "structure") if layout.structure is not None else "structure"
        raise TypeError(
            f"Gradient only defined for scalar-output functions. Output was a {kind}. Return one scalar, or use "
            "arraydiff.jacobian."
        )
    if leaves[0].shape:
        raise TypeError(
            f"Gradient only defined for scalar-output functions. Output had shape: {leaves[0].shape}. "
            "Use arraydiff.jacobian, or sum the output."
        )


class ValueAndGradient(Gradient):
    """What `value_and_grad` returns."""

    title, described = "value_and_grad", "Value and gradient"

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        value = self._value(bound, derivative)
        gradient = self._assembled(bound, derivative.output.layout, flat, "value")
        return ((value, derivative.output.aux) if self.options.has_aux else value), gradient

    def _paired(self, value: Array, rows: Array) -> Any:
        return value, rows


class ForwardJacobian(Transform):
    """What `jacfwd` returns."""

    title, described = "jacfwd", "Jacobian"
    result_type: ClassVar[type[DerivativeResult]] = JacobianResult
    complex_outputs = True
    repeats = True


class ReverseJacobian(Transform):
    """What `jacrev` returns."""

    title, described = "jacrev", "Jacobian"
    result_type = JacobianResult
    complex_inputs = True
    repeats = True


class Jacobian(ReverseJacobian):
    """What `jacobian` returns: JAX's jacrev, with jacfwd's outputs."""

    title = "jacobian"
    complex_outputs = True


class Elementwise(Transform):
    """What `derivative` returns."""

    title, described = "derivative", "Elementwise derivative"
    result_type = GradientResult
    elementwise = True

    def __init__(self, fun: Callable[..., Any], options: Options, n: int = 1) -> None:
        super().__init__(fun, options)
        self.n = n

    def _wanted(self, bound: Bound) -> Wanted:
        wanted = super()._wanted(bound)
        return wanted if self.n == 1 else replace(wanted, strategy=Higher(self.n))

    def _traced(self, bound: Bound, tape: Tape) -> Any:
        return tape.pushforward(bound.problem.xp.ones_like(bound.problem.x))[None, :]

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        super()._check_output(bound_backend, layout)
        if len(layout.leaves) != 1:
            raise TypeError("derivative wants a function of one array that returns one array; see arraydiff.jacobian")

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        backend, entries = bound.problem.backend, bound.problem.xp.reshape(flat, (-1,))
        return assembly.vector(backend, bound.layout, entries, flat.dtype if kind == "status" else None)

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        if self.n > 1:
            return None
        problem, value = bound.problem, derivative.prepared.value
        xp = problem.xp
        size = xp.where(value == 0, xp.full_like(value, float("nan")), xp.abs(value))
        return assembly.vector(problem.backend, bound.layout, xp.abs(problem.x * derivative.dense.columns[0, :]) / size)


def _made(
    kind: type[Transform],
    fun: Callable[..., Any],
    argnums: Any,
    config: DifferentiationConfig | None,
    options: dict[str, Any],
    in_axes: Any,
    sparsity: Any = None,
    verify_pattern: Any = True,
    **given: Any,
) -> Any:
    if sparsity is not None:
        from arraydiff.sparse.jacobian import sparse_jacobian  # dense derivatives need none of it

        given |= {"in_axes": in_axes, "title": kind.title}
        return sparse_jacobian(fun, argnums, sparsity, verify_pattern, config, options, **given)
    chosen = config_of(config, options, kind.title)
    return over_axes(kind(fun, Options(Argnums.of(argnums), chosen, **given)), in_axes)


def over_axes(transform: Transform, in_axes: Any) -> Any:
    """The transform, at every point of a batch where axes are given."""
    if in_axes is not None and transform.options.out is not None:
        raise ValueError("out takes the Jacobian at one point: leave in_axes out, or out")
    return transform if in_axes is None else Batched(transform, in_axes)


def grad(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    **options: Any,
) -> Any:
    """Gradient of a scalar function.

    Parameters
    ----------
    fun : callable
        Takes arrays (or trees of them) and returns one real scalar. Plain NumPy, CuPy, PyTorch, JAX, Dask or array-API code;
        it may use ``float()``, write in place, and reuse its buffers.
    argnums : int or tuple of ints, default 0
        Which positional arguments to differentiate; a tuple returns a tuple.
    has_aux : bool, default False
        ``fun`` returns ``(output, aux)``; then ``(gradient, aux)`` is returned.
    holomorphic : bool, default False
        ``fun`` is holomorphic: complex input, complex output, f'(z).
    allow_int : bool, default False
        Let integer arguments through; their derivative is of dtype float0.
    config : DifferentiationConfig, optional
        All options in one; keywords override it.
    full_output : bool, default False
        Return the :class:`GradientResult` instead of bare arrays.
    in_axes : int or tuple of ints and None, optional
        A batch of points: axes of the positional arguments along which they lie, as in :func:`jax.vmap` (an int stands for
        all arguments, None for one that is shared; keyword arguments lie along axis 0). Every answer gets an axis of points
        in front and equals that of a loop; the points share their rounds, and with ``vectorized=True`` the calls of ``fun``.
    **options
        Fields of :class:`DifferentiationConfig`, such as ``method="central"``.

    Returns
    -------
    callable
        ``g(x)`` gives the gradient, of the shape, dtype, library and device of x; ``g.result(x)`` a
        :class:`GradientResult` with error bars, flags and costs; ``g.forget()`` drops what was learnt of ``fun``.

    Raises
    ------
    TypeError
        Integer arguments, outputs that are not one real scalar, unknown options.
    ValueError
        Options that cannot be served, x outside its bounds.
    NumericalStabilityError
        With ``unreliable="raise"``, where entries cannot be vouched for.

    Warns
    -----
    DifferentiationWarning
        Entries that cannot be vouched for.

    References
    ----------
    Following code: Griewank & Walther, Evaluating Derivatives, SIAM (2008).
    Complex step: Squire & Trapp, SIAM Rev. 40 (1998) 110. Ladder: Ridders, Adv. Eng. Softw. 4 (1982) 75.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> def f(x):
    ...     return np.sum(np.sin(x) * x)
    >>> x = np.array([0.5, 1.0])
    >>> np.allclose(arraydiff.grad(f)(x), np.sin(x) + x * np.cos(x), rtol=1e-14)
    True
    """
    given = {"has_aux": has_aux, "holomorphic": holomorphic, "allow_int": allow_int, "full_output": full_output}
    return _made(Gradient, fun, argnums, config, options, in_axes, **given)


def value_and_grad(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    **options: Any,
) -> Any:
    """Value and gradient of a scalar function, as ``(value, gradient)``; ``((value, aux), gradient)`` with ``has_aux``.

    Parameters, errors and the returned object are those of :func:`grad`.

    Examples
    --------
    >>> import arraydiff
    >>> value, gradient = arraydiff.value_and_grad(lambda x: x**2)(3.0)
    >>> print(value, gradient)
    9.0 6.0
    """
    given = {"has_aux": has_aux, "holomorphic": holomorphic, "allow_int": allow_int, "full_output": full_output}
    return _made(ValueAndGradient, fun, argnums, config, options, in_axes, **given)


def jacobian(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    out: Any = None,
    sparsity: Any = None,
    verify_pattern: Any = True,
    linear: Any = None,
    **options: Any,
) -> Any:
    """Jacobian of an array function: shape of the output, then shape of x; an output tree gives a tree.

    Parameters, errors and the returned object are those of :func:`grad`, with a :class:`JacobianResult`, and `out`.
    Columns are evaluated a chunk at a time; no n × n array is made besides the Jacobian itself.

    Parameters
    ----------
    out : array, optional
        Where the values go and what is returned: anything that has a shape and can be written by slices, such as a memory map or
        a dataset of h5py, of the shape of the output, then that of x (one array each). A bare call then holds no Jacobian in
        memory; ``.result`` does, beside its error bars.
    sparsity : pattern, "detect", "trace" or Sparsity, optional
        Which entries may differ from 0: an array of ``scipy.sparse``, a boolean array (m, n), or (rows, cols, shape), outputs by
        parameters, both counted along their flat arrays. Then columns that share no row are displaced together, and a sparse
        matrix comes back: ``csr_array`` on NumPy, ``csr_matrix`` of CuPy, else :class:`arraydiff.sparse.Triplets`. "detect" finds
        the pattern on the first call and keeps it, "trace" reads it off one call.
    verify_pattern : bool or "repair", default True
        Compare the Jacobian with f along one random direction in every call: a pattern of yours that lacks entries raises,
        a detected one is mended, and "repair" mends yours too. False: it is taken as it is, and so is `linear`.
    linear : path or list of paths, optional
        Parameters in which f is linear, each by itself while the others stand still: their columns are taken from one difference
        each, exact to rounding whatever the step. An int or a slice names entries of an array, a key or a tuple of keys an array
        in a tree (entries of it may follow); where several arguments are differentiated a path starts with the position of one.
        One direction more in every call checks it; ValueError where f is not linear.

    Returns
    -------
    callable
        As in :func:`grad`.

    Raises
    ------
    SparsityError
        The pattern lacks entries; ``.rows`` tells of which outputs.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> arraydiff.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    given = {"has_aux": has_aux, "holomorphic": holomorphic, "allow_int": allow_int, "full_output": full_output}
    given |= {"out": out, "linear": linear}
    return _made(Jacobian, fun, argnums, config, options, in_axes, sparsity, verify_pattern, **given)


def jacrev(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    out: Any = None,
    sparsity: Any = None,
    verify_pattern: Any = True,
    linear: Any = None,
    **options: Any,
) -> Any:
    """Jacobian with the signature and the rules of ``jax.jacrev``; see :func:`jacobian`.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> arraydiff.jacrev(lambda x: x[:1] * x[1])(np.array([3.0, 2.0]))
    array([[2., 3.]])
    """
    given = {"has_aux": has_aux, "holomorphic": holomorphic, "allow_int": allow_int, "full_output": full_output}
    given |= {"out": out, "linear": linear}
    return _made(ReverseJacobian, fun, argnums, config, options, in_axes, sparsity, verify_pattern, **given)


def jacfwd(
    fun: Callable[..., Any],
    argnums: Any = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    in_axes: Any = None,
    out: Any = None,
    sparsity: Any = None,
    verify_pattern: Any = True,
    linear: Any = None,
    **options: Any,
) -> Any:
    """Jacobian with the signature and the rules of ``jax.jacfwd``; see :func:`jacobian`.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> arraydiff.jacfwd(lambda x: x[:1] * x[1])(np.array([3.0, 2.0]))
    array([[2., 3.]])
    """
    given = {"has_aux": has_aux, "holomorphic": holomorphic, "full_output": full_output, "out": out, "linear": linear}
    return _made(ForwardJacobian, fun, argnums, config, options, in_axes, sparsity, verify_pattern, **given)


def derivative(
    fun: Callable[..., Any],
    n: int = 1,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    **options: Any,
) -> Any:
    """Elementwise derivative of a function whose every output depends on its own input alone.

    Parameters
    ----------
    fun : callable
        Takes an array x and returns an array of its shape; all entries are displaced in one call, so the cost does not
        depend on their number.
    n : int, default 1
        The order of the derivative, 1 to 4. Beyond 1 it is taken from real differences, at up to 25 points; the methods are
        then "adaptive", "richardson" and "central".
    config, full_output, **options
        As in :func:`grad`.

    Returns
    -------
    callable
        As in :func:`grad`; ``g(x)`` has the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> x = np.linspace(0.1, 2.0, 1000)
    >>> result = arraydiff.derivative(np.exp).result(x)
    >>> np.allclose(result.derivative, np.exp(x), rtol=1e-13), result.function_points < 30
    (True, True)
    >>> result = arraydiff.derivative(np.exp, n=3).result(x)
    >>> np.allclose(result.derivative, np.exp(x), rtol=1e-8), result.function_points <= 25
    (True, True)
    """
    if type(n) is not int or not 1 <= n <= HIGHEST:
        raise ValueError(
            f"n wants 1, 2, 3 or 4, got {n!r}: for higher orders nest, as in derivative(derivative(f, n=4))"
        )
    chosen = config_of(config, options, "derivative")
    if n > 1:
        check_method(n, chosen)
    return Elementwise(fun, Options(Argnums.of(0), chosen, full_output=full_output), n)
