"""Products with a derivative that is never held: J·v, uᵀ·J and H·v, alone or as a linear operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from arraydiff import assembly
from arraydiff._typing import Array, PyTree
from arraydiff.arguments import Argnums, Layout, Leaf, flatten, layout_of, ravel
from arraydiff.backends import Backend, backend_of
from arraydiff.binding import Asked, Bound, Rules, bind, checked_gradient, same_structure, tangent_of
from arraydiff.callables import Transform
from arraydiff.config import DifferentiationConfig
from arraydiff.engine import Derivative, Wanted, along, value_at
from arraydiff.options import Options, config_of, inner_config, outer_config
from arraydiff.result import DerivativeResult, HessianResult, JacobianResult
from arraydiff.seam import Tape
from arraydiff.transforms import Gradient, grad

__all__ = ["hessian_operator", "hvp", "jvp", "vjp"]


class Tangent(Transform):
    """J·v along one tangent; made and called at once by `jvp`."""

    title, described = "jvp", "Directional derivative"
    result_type: ClassVar[type[DerivativeResult]] = JacobianResult
    complex_outputs = True

    def __init__(self, fun: Callable[..., Any], options: Options, tangents: tuple[Any, ...]) -> None:
        super().__init__(fun, options)
        self.tangents = tangents

    def _wanted(self, bound: Bound) -> Wanted:
        return along(tangent_of(bound, self.tangents)[:, None])

    def _traced(self, bound: Bound, tape: Tape) -> Any:
        return tape.pushforward(tangent_of(bound, self.tangents))[:, None]

    def _assembled(self, bound: Bound, outputs: Layout, flat: Array, kind: str) -> PyTree:
        one = Layout(None, (Leaf((), bound.problem.x.dtype),))
        return assembly.matrix(bound.problem.backend, outputs, one, flat, kind)

    def _steps(self, bound: Bound, derivative: Derivative) -> PyTree:
        return derivative.dense.steps[0]

    def _condition(self, bound: Bound, derivative: Derivative) -> PyTree:
        return None

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        output = derivative.output
        both = (self._value(bound, derivative), self._assembled(bound, output.layout, flat, "value"))
        return (*both, output.aux) if self.options.has_aux else both


class HessianProduct(Tangent):
    """H·v; made and called at once by `hvp`."""

    title, described = "hvp", "Hessian-vector product"
    result_type = HessianResult

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        product = self._assembled(bound, derivative.output.layout, flat, "value")
        return product[0] if len(self.tangents) == 1 else product


class GivenProduct(HessianProduct):
    """H·v by differences of a gradient of the user's, which gives a bare array where there is one primal."""

    def _check_output(self, bound_backend: Any, layout: Layout) -> None:
        super()._check_output(bound_backend, layout)
        checked_gradient(layout_of(bound_backend, self.tangents)[0], layout)

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        return self._assembled(bound, derivative.output.layout, flat, "value")


class Cotangent(Gradient):
    """uᵀ·J for one cotangent; made and called at once by the function that `vjp` returns."""

    title, described = "vjp", "Cotangent"
    repeats = False

    def __init__(self, fun: Callable[..., Any], options: Options, cotangent: Array) -> None:
        super().__init__(fun, options)
        self.cotangent = cotangent

    def _bare(self, bound: Bound, derivative: Derivative, flat: Array) -> Any:
        return self._assembled(bound, derivative.output.layout, flat, "value")


def jvp(
    fun: Callable[..., Any],
    primals: Any,
    tangents: Any,
    has_aux: bool = False,
    *,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    **options: Any,
) -> Any:
    """Jacobian-vector product: f and its derivative along one direction, at the cost of one derivative whatever n.

    Parameters
    ----------
    fun : callable
        As in :func:`jacobian`.
    primals, tangents : tuple or list
        The positional arguments of ``fun``, and a direction of the same structure, shapes and dtypes.
    has_aux : bool, default False
        ``fun`` returns ``(output, aux)``; then ``(value, tangent, aux)`` is returned.
    config, full_output, **options
        As in :func:`grad`; ``full_output=True`` gives a :class:`JacobianResult` of the tangent.

    Returns
    -------
    value, tangent : as fun returns
        f(x) and J·v.

    Raises
    ------
    TypeError, ValueError
        Tangents that do not fit the primals.

    Examples
    --------
    >>> import arraydiff
    >>> value, tangent = arraydiff.jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    >>> print(value, tangent)
    6.0 3.0
    """
    primals, tangents = _pair("jvp", primals, tangents)
    chosen = config_of(config, options, "jvp")
    argnums = Argnums.of(tuple(range(len(primals))))
    return Tangent(fun, Options(argnums, chosen, has_aux, full_output=full_output), tangents)(*primals)


def hvp(
    fun: Callable[..., Any],
    primals: Any,
    tangents: Any,
    *,
    gradient: Callable[..., Any] | None = None,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    **options: Any,
) -> Any:
    """Hessian-vector product of a scalar function: the derivative of its gradient along one direction.

    Parameters
    ----------
    fun : callable
        As in :func:`grad`.
    primals, tangents : tuple or list
        The positional arguments of ``fun``, and a direction of the same structure, shapes and dtypes.
    gradient : callable, optional
        The gradient of `fun`, which takes the same arguments: it is differenced along the tangent, a few times whatever n, and
        `fun` is not called. It returns an array like the primal, or a tuple with one for each of several.
    config, full_output, **options
        As in :func:`grad`; ``full_output=True`` gives a :class:`HessianResult` of H·v.

    Returns
    -------
    array or pytree
        H·v in the structure of the primals; bare where there is one.

    Raises
    ------
    TypeError, ValueError
        Tangents that do not fit the primals, or a gradient that does not return their shapes.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> x, v = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> np.allclose(arraydiff.hvp(lambda x: x[0] ** 2 * x[1], (x,), (v,)), [4, 2])
    True
    """
    primals, tangents = _pair("hvp", primals, tangents)
    slope = Slope.of(fun, len(primals), gradient, config_of(config, options, "hvp"))
    return slope.along(primals, tangents, full_output=full_output)


@dataclass(frozen=True)
class Slope:
    """The gradient of a function, ready to be differenced along any direction."""

    function: Callable[..., Any]
    product: type[HessianProduct]
    options: Options

    @classmethod
    def of(
        cls, fun: Callable[..., Any], count: int, gradient: Callable[..., Any] | None, config: DifferentiationConfig
    ) -> Slope:
        """The user's gradient, or ours, with respect to so many arguments."""
        numbers = tuple(range(count))
        if gradient is None:
            ours = grad(fun, numbers, config=inner_config(config))
            return cls(ours, HessianProduct, Options(Argnums.of(numbers), outer_config(config)))
        if not callable(gradient):
            raise TypeError(f"gradient wants a function of the same arguments as fun, got {type(gradient).__name__}")
        return cls(gradient, GivenProduct, Options(Argnums.of(numbers), config))

    def along(self, primals: tuple[Any, ...], tangents: tuple[Any, ...], *, full_output: bool = False) -> Any:
        """H·v at these primals."""
        options = replace(self.options, full_output=full_output)
        return self.product(self.function, options, tangents)(*primals)


def hessian_operator(
    fun: Callable[..., Any],
    *primals: Any,
    gradient: Callable[..., Any] | None = None,
    config: DifferentiationConfig | None = None,
    **options: Any,
) -> Any:
    """Hessian of a scalar function as a linear operator: its products with vectors, for iterative solvers; it is never held.

    Parameters
    ----------
    fun : callable
        As in :func:`grad`.
    *primals
        The positional arguments of ``fun``, arrays of NumPy or CuPy or structures of them.
    gradient : callable, optional
        The gradient of `fun`, as in :func:`hvp`: a product then takes a few of it whatever n; without one, a few gradients
        by differences, whose points grow with n.
    config, **options
        As in :func:`grad`. Each product warns where it is not vouched for: ``unreliable="ignore"`` keeps it quiet.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Shape (n, n), symmetric, of the dtype of x, over all numbers of the primals in the order of their flat arrays; of
        ``cupyx.scipy`` where the primals are CuPy's.

    Raises
    ------
    TypeError
        Arrays of another library, or primals that :func:`hvp` does not take.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> from scipy.sparse.linalg import cg
    >>> H = arraydiff.hessian_operator(lambda x: np.sum(x**4), np.array([1.0, 2.0, 3.0]))
    >>> step, failed = cg(H, np.array([12.0, 48.0, 108.0]))
    >>> np.allclose(step, 1), failed
    (True, 0)
    """
    chosen = config_of(config, options, "hessian_operator")
    if not primals:
        raise TypeError("hessian_operator takes the point too: call hessian_operator(fun, x)")
    argnums = Argnums.of(tuple(range(len(primals))))
    bound = bind(Asked(fun, primals, {}, argnums, chosen, Rules("hessian_operator")))
    slope, backend = Slope.of(fun, len(primals), gradient, chosen), bound.problem.backend
    n, dtype = bound.problem.n, bound.problem.x.dtype
    return backend.operator(n, dtype, FlatProduct(slope, primals, bound.layout, backend, dtype))


@dataclass(frozen=True)
class FlatProduct:
    """H·v for flat vectors."""

    slope: Slope
    primals: tuple[Any, ...]
    layout: Layout
    backend: Backend
    dtype: Any

    def __call__(self, vector: Array) -> Array:
        """H·v, (n,) or (n, 1) to (n,)."""
        xp = self.backend.xp
        if xp.isdtype(vector.dtype, "complex floating"):
            return self(xp.real(vector)) + 1j * self(xp.imag(vector))
        with self.backend.on_device():
            flat = xp.astype(xp.reshape(vector, (-1,)), self.dtype)
            size = xp.max(xp.abs(flat)) if self.layout.size else xp.ones_like(xp.sum(flat))
            size = xp.where(size > 0, size, xp.ones_like(size))  # a residual of 1e-300 has a direction, too
            tangents = assembly.vector(self.backend, self.layout, flat / size)
        product = self.slope.along(self.primals, tangents)
        with self.backend.on_device():
            layout, arrays = layout_of(self.backend, product)
            return size * ravel(self.backend, layout.leaves, arrays, self.dtype)


def vjp(
    fun: Callable[..., Any],
    *primals: Any,
    has_aux: bool = False,
    config: DifferentiationConfig | None = None,
    full_output: bool = False,
    **options: Any,
) -> Any:
    """Vector-Jacobian product: f(x), and a function that takes a cotangent u to uᵀ·J for every primal.

    Parameters
    ----------
    fun : callable
        As in :func:`jacobian`.
    *primals
        The positional arguments of ``fun``.
    has_aux : bool, default False
        ``fun`` returns ``(output, aux)``; then ``(value, function, aux)`` is returned.
    config, full_output, **options
        As in :func:`grad`; with ``full_output=True`` the function gives a :class:`GradientResult`.

    Returns
    -------
    value
        f(x).
    function : VectorJacobianProduct
        Each call differentiates the scalar uᵀ·f: the cost of one gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import arraydiff
    >>> value, pull = arraydiff.vjp(lambda x: x**2, np.array([1.0, 2.0]))
    >>> (gradient,) = pull(np.array([1.0, 10.0]))
    >>> np.allclose(gradient, [2, 40])
    True
    """
    chosen = config_of(config, options, "vjp")
    argnums = Argnums.of(tuple(range(len(primals)))) if primals else Argnums((), single=False)
    bound = bind(Asked(fun, primals, {}, argnums, chosen, Rules("vjp", complex_inputs=True), has_aux))
    with bound.problem.backend.on_device():
        output = value_at(bound.problem, chosen)
        value = assembly.value(bound.problem.backend, output.layout, output.values)
    pull = VectorJacobianProduct(
        fun, primals, Options(argnums, chosen, has_aux, full_output=full_output), output.layout
    )
    return (value, pull, output.aux) if has_aux else (value, pull)


@dataclass(frozen=True)
class VectorJacobianProduct:
    """What `vjp` returns: takes a cotangent of the structure of f(x) to uᵀ·J, a tuple with one entry a primal."""

    fun: Callable[..., Any]
    primals: tuple[Any, ...]
    options: Options
    outputs: Layout

    def __call__(self, cotangent: PyTree) -> Any:
        """uᵀ·J."""
        backend = backend_of(flatten(cotangent)[0])
        with backend.on_device():
            layout, arrays = layout_of(backend, cotangent)
            shapes = [[leaf.shape for leaf in one.leaves] for one in (layout, self.outputs)]
            if shapes[0] != shapes[1] or not same_structure(layout, self.outputs):
                wanted = ", ".join(str(leaf.shape) for leaf in self.outputs.leaves)
                raise ValueError(f"the cotangent must have the structure and shapes of f(x): {wanted}")
            flat = self._flat(backend, arrays)
        return Cotangent(self.fun, self.options, flat)(*self.primals)

    def _flat(self, backend: Backend, arrays: Sequence[Array]) -> Array:
        """u beside the flat outputs: Re(u f) = Re u Re f - Im u Im f."""
        xp, parts = backend.xp, []
        for leaf, array in zip(self.outputs.leaves, arrays, strict=True):
            given = xp.reshape(array, (-1,))
            if not leaf.is_complex:
                parts.append(given)
            elif xp.isdtype(given.dtype, "complex floating"):
                parts += [xp.real(given), -xp.imag(given)]
            else:
                parts += [given, xp.zeros_like(given)]
        return parts[0] if len(parts) == 1 else xp.concat(parts)


def _pair(caller: str, primals: Any, tangents: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TypeError(
            f"primal and tangent arguments to {caller} must be tuples or lists; found {type(primals).__name__} and "
            f"{type(tangents).__name__}: write ({caller}(f, (x,), (v,)))"
        )
    if len(primals) != len(tangents):
        raise TypeError(f"{caller} takes one tangent for every primal, got {len(primals)} primals and {len(tangents)}")
    return tuple(primals), tuple(tangents)
