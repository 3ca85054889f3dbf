"""One import for code written for JAX: JAX's own functions where JAX can be imported, arraydiff's where it cannot.

::

    from arraydiff.fallback import JAX_AVAILABLE, grad, hessian, jit, jnp, vmap

The names are the same either way, and no others: what only JAX can do (``lax``, ``random``, ``nn``, ``x.at``) raises
by name and says what to use instead, with JAX and without, so that what runs in one place runs in the other.
"""

from __future__ import annotations

import dis
import functools
import importlib
import inspect
import operator
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from arraydiff import products, second, transforms
from arraydiff._vmap import vmap as _plain_vmap
from arraydiff.problem import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "JAX_AVAILABLE",
    "JAX_IMPORT_ERROR",
    "grad",
    "hessian",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jnp",
    "jvp",
    "value_and_grad",
    "vjp",
    "vmap",
]

# What only JAX has, and the way on without it
REMEDIES = {
    "lax": "write loops, conditions and scans in plain Python and NumPy",
    "random": "use numpy.random.default_rng(seed) and hand the numbers to your function",
    "nn": "write the activation with jnp, as in jnp.maximum(x, 0)",
    "scipy": "import the same function from scipy",
    "numpy": "import jnp from here",
    "Array": "annotate with jnp.ndarray",
    "at": "use jnp.where, or y = x.copy(); y[i] = value",
    "tree": "use optree, or a few lines of Python",
    "tree_util": "use optree, or a few lines of Python",
    "pmap": "use vmap, or arraydiff's option workers=",
    "custom_jvp": "differentiate the function itself: arraydiff needs no rule",
    "custom_vjp": "differentiate the function itself: arraydiff needs no rule",
    "linearize": "use jvp",
    "checkpoint": "leave it out: nothing is stored on the way",
    "block_until_ready": "leave it out: NumPy's results are ready",
    "device_put": "leave it out: NumPy has one device",
    "config": "leave it out: NumPy computes in float64",
}
ABSENT_FROM_NUMPY = {
    "float_": "write jnp.float64",
    "complex_": "write jnp.complex128",
    "bfloat16": "write jnp.float32",
    "ComplexWarning": "write numpy.exceptions.ComplexWarning",
}
ABSENT_FROM_ARRAYS = ("at", "block_until_ready")


def _import_jax() -> tuple[types.ModuleType | None, Exception | None]:
    """JAX, or what kept it from being imported; an installation that breaks on import counts as none."""
    try:
        return importlib.import_module("jax"), None
    except ImportError as error:
        return None, error
    except Exception as error:  # noqa: BLE001  # a jaxlib that does not fit raises RuntimeError and others
        warnings.warn(
            f"JAX is installed but fails on import ({type(error).__name__}: {error}); arraydiff takes its place. "
            "Mend or remove that installation to be rid of this warning.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None, error


_jax, JAX_IMPORT_ERROR = _import_jax()
JAX_AVAILABLE = _jax is not None


# A missing attribute of a NumPy array, said with its remedy


class _AbsentFromNumPyError(AttributeError):
    """An attribute that JAX's arrays have and NumPy's have not."""


def _raise_with_remedy(error: AttributeError) -> NoReturn:
    name = error.name if type(error) is AttributeError and isinstance(error.obj, np.ndarray | np.generic) else None
    if name is None or name not in ABSENT_FROM_ARRAYS:
        raise error
    message = f"x.{name} needs JAX, and x is a NumPy array here: {REMEDIES[name]}"
    raise _AbsentFromNumPyError(message, name=name, obj=error.obj) from error


class _Explained:
    """A function whose use of what only JAX's arrays have is answered with the remedy."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fun)  # first: it copies the attributes of fun
        self.fun = fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.fun(*args, **kwargs)
        except AttributeError as error:
            _raise_with_remedy(error)


def _explained(transform: Callable[..., Any]) -> Callable[..., Any]:
    """A transform of ours, with a word about ``x.at`` for the function it is given."""

    @functools.wraps(transform)
    def explained(fun: Any, *args: Any, **kwargs: Any) -> Any:
        plain = callable(fun) and not isinstance(fun, Measured)  # a derivative of ours has had it from within
        return transform(_Explained(fun) if plain else fun, *args, **kwargs)

    return explained


# jit: nothing is compiled, everything is checked

_NOT_GIVEN: Any = object()


class _Jitted:
    """A function called as it is, its static arguments checked as JAX would."""

    def __init__(self, fun: Any, static_argnums: tuple[int, ...], static_argnames: tuple[str, ...]) -> None:
        functools.update_wrapper(self, fun)  # first: it copies the attributes of fun
        self._fun, self._static_argnums, self._static_argnames = fun, static_argnums, static_argnames
        if isinstance(fun, Measured):
            self.measure = fun.measure  # so that a derivative of ours, jitted, still tells its error bars

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for i in self._static_argnums:
            if -len(args) <= i < len(args):
                _check_hashable(args[i], f"argument {i}")
        for name in self._static_argnames:
            if name in kwargs:
                _check_hashable(kwargs[name], f"argument {name!r}")
        try:
            return self._fun(*args, **kwargs)
        except AttributeError as error:
            _raise_with_remedy(error)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<jit of {self._fun!r}, not compiled>"

    def __reduce__(self) -> Any:
        """By name where the name leads here, as for ``@jit def f``; else by its parts."""
        try:
            named = operator.attrgetter(vars(self)["__qualname__"])(sys.modules[self.__module__])
        except (AttributeError, KeyError):  # a partial, or defined inside a function
            named = None
        return vars(self)["__qualname__"] if named is self else (_Jitted, self._parts())

    def _parts(self) -> tuple[Any, ...]:
        return self._fun, self._static_argnums, self._static_argnames

    def clear_cache(self) -> None:
        """Nothing is compiled, so nothing is kept."""

    def lower(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Compiling ahead of time needs JAX."""
        raise NotImplementedError("jit(f).lower needs JAX: call f itself, nothing is compiled without JAX")

    trace = eval_shape = lower


def _plain_jit(
    fun: Any = _NOT_GIVEN,
    /,
    *,
    in_shardings: Any = None,
    out_shardings: Any = None,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Iterable[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Iterable[str] | None = None,
    keep_unused: bool = False,
    device: Any = None,
    backend: str | None = None,
    inline: bool = False,
    compiler_options: dict[str, Any] | None = None,
    abstracted_axes: Any = None,
) -> Any:
    """Take the place of ``jax.jit``: the function runs as it is, uncompiled.

    Every keyword of ``jax.jit`` is accepted.  Static and donated arguments are checked as JAX checks them; the keywords
    about devices and compilation have nothing to act on.

    Parameters
    ----------
    fun : callable, optional
        Left out, a decorator comes back: ``@jit(static_argnums=1)``.
    static_argnums, static_argnames : int, str or sequences of them, optional
        Arguments that must be hashable; numbers may be negative.

    Returns
    -------
    callable
        Called like `fun`.

    Raises
    ------
    TypeError
        `fun` is not callable.
    ValueError
        An argument that `fun` does not take is named static or donated; on a call, a static one is not hashable.
    """
    if fun is _NOT_GIVEN:
        given = {k: v for k, v in locals().items() if k != "fun"}
        return functools.partial(_plain_jit, **given)
    if not callable(fun):
        raise TypeError(f"jit wants a callable, got {fun!r}")
    if device is not None and backend is not None:
        raise ValueError(f"jit takes a device or a backend, not both, got device={device!r} and backend={backend!r}")
    numbers, names = _arguments(fun, "static", static_argnums, static_argnames)
    donated = _arguments(fun, "donate", donate_argnums, donate_argnames)
    both = {*numbers} & {*donated[0]} | {*names} & {*donated[1]}
    if both:
        raise ValueError(f"jit: {sorted(map(str, both))} cannot be both static and donated; name each in one place")
    return _Jitted(fun, numbers, names)


def _arguments(fun: Any, kind: str, argnums: Any, argnames: Any) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Positions and names of the arguments meant, each also by the other where one alone is given."""
    numbers = () if argnums is None else _indices(argnums, kind)
    names = () if argnames is None else (argnames,) if isinstance(argnames, str) else tuple(argnames)
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        return numbers, names
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    kinds = {p.kind for p in parameters}
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        wrong = [i for i in numbers if not -len(positional) <= i < len(positional)]
        if wrong:
            raise ValueError(f"jit: {kind}_argnums={numbers} must be among the {len(positional)} positional arguments")
        numbers = tuple(i % len(positional) for i in numbers)
    unknown = [name for name in names if name not in keywords]
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise ValueError(f"jit got {kind}_argnames with {unknown}, but the function takes only {sorted(keywords)}")
    if argnames is None:
        names = tuple(positional[i] for i in numbers if 0 <= i < len(positional))
    elif argnums is None:
        numbers = tuple(positional.index(name) for name in names if name in positional)
    return numbers, names


def _indices(argnums: Any, kind: str) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, argnums if isinstance(argnums, tuple | list) else (argnums,)))
    except TypeError:
        raise TypeError(f"jit: {kind}_argnums wants an int or a sequence of ints, got {argnums!r}") from None


def _check_hashable(value: Any, which: str) -> None:
    try:
        hash(value)
    except TypeError as error:
        advice = "pass a tuple for a list, or leave the argument out of static_argnums and static_argnames"
        raise ValueError(f"jit: static {which} must be hashable, got {type(value).__name__}: {advice}") from error


# NumPy under the name jnp


class _NumPyAsJnp(types.ModuleType):
    """NumPy, which says what to do where ``jax.numpy`` has a name that it has not."""

    def __getattr__(self, name: str) -> Any:
        if hasattr(np, name):
            return getattr(np, name)
        remedy = ABSENT_FROM_NUMPY.get(name, "install a newer NumPy or JAX, or write it with NumPy")
        raise AttributeError(f"jnp.{name} needs JAX, and jnp is NumPy {np.__version__} here: {remedy}")

    def __dir__(self) -> list[str]:
        return dir(np)


def __getattr__(name: str) -> NoReturn:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its names are in __all__")
    remedy = f"without JAX, {REMEDIES[name]}" if name in REMEDIES else f"the names here are {', '.join(__all__)}"
    message = f"arraydiff.fallback has no {name!r}, with JAX or without: import it from jax if it must be; {remedy}"
    if _is_from_import(sys._getframe(1)):  # Python would replace the message of an AttributeError
        raise ImportError(message, name=__name__)
    raise AttributeError(message)


def _is_from_import(frame: types.FrameType) -> bool:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] == "IMPORT_FROM"


if _jax is not None:
    jnp: Any = importlib.import_module("jax.numpy")
    grad, value_and_grad, hessian = _jax.grad, _jax.value_and_grad, _jax.hessian
    jacfwd, jacrev, jacobian = _jax.jacfwd, _jax.jacrev, _jax.jacrev
    jvp, vjp, vmap, jit = _jax.jvp, _jax.vjp, _jax.vmap, _jax.jit
else:
    jnp = _NumPyAsJnp("jnp", "NumPy under the name that JAX's users give to jax.numpy.")
    grad, value_and_grad = _explained(transforms.grad), _explained(transforms.value_and_grad)
    jacfwd, jacrev, jacobian = (
        _explained(made) for made in (transforms.jacfwd, transforms.jacrev, transforms.jacobian)
    )
    hessian, jvp, vjp = _explained(second.hessian), _explained(products.jvp), _explained(products.vjp)
    vmap, jit = _explained(_plain_vmap), _plain_jit
