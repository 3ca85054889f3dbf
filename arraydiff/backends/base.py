"""What the core asks of an array library beyond the standard; the defaults serve any library that speaks it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NoReturn, Self

import array_api_compat
import numpy as np

from arraydiff._typing import Array, Namespace, PyTree
from arraydiff.backends.host_memory import free_memory, memory_in_use

RAY_SEED = 20261123
"""Rays are the same in every process and thread: same f, x and config, same bits."""

RAYS = 8
"""That are kept: a ray is as large as x."""

RAY_PART = 2**14
"""Of a ray, whose signs are drawn at once."""


@dataclass(frozen=True)
class Met:
    """What was met on the way, of which libraries tell nothing."""

    kinks: dict[str, str]
    branches: dict[str, str]


class OwnTape:
    """A tape of the library's own."""

    held = 0
    """Nothing is told."""

    @property
    def notes(self) -> Met:
        """Nothing is told."""
        return Met({}, {})

    def kinked(self) -> tuple[()]:
        """Nothing is told."""
        return ()

    def shaken(self, _units: float, _sample: int = 0, *, keep: bool = False) -> None:
        """Its operations cannot be done again."""
        return


@dataclass(frozen=True)
class Backend:
    """One array library on one device."""

    xp: Namespace
    device: Any

    traced = False
    """Whether arrays stand for values that nobody has, as inside jax.jit."""

    deferred = False
    """Whether a derivative is made without one look at values: what depends on them is chosen by `where`."""

    immutable = False
    """Whether arrays of ours cannot be written."""

    immediate = False
    """Whether operations on small arrays take so little that what is done around them counts."""

    complex_warnings = (np.exceptions.ComplexWarning,)
    """Warnings by which the library says that an imaginary part is lost."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.xp.__name__, self.device)  # modules cannot be pickled, workers need it

    @classmethod
    def owns(cls, array: Array) -> bool:
        """Whether `array` is of this library."""
        raise NotImplementedError

    @classmethod
    def of(cls, array: Array) -> Self:
        """The backend of an array that it owns."""
        return cls(array_api_compat.array_namespace(array), array_api_compat.device(array))

    @cached_property
    def on_cpu(self) -> bool:
        """Whether arrays lie in the memory of the host."""
        return True

    def during(self, fixed_stages: bool, arguments: PyTree) -> Backend:
        """The backend of one call of f with these arguments, by a method whose points do or do not depend on values."""
        return self

    def refuse(self, what: str) -> NoReturn:
        """Say that values decide, which are not there."""
        raise ValueError(
            f"{what} decides by values of f, which are not known inside jax.jit, vmap and scan: there, pass method='central' "
            "(with order=4, say), 'forward', 'backward' or 'complex_step', or method='richardson' with step_size= or "
            "relative_step=, or take jax.grad; outside, the default works"
        )

    @cached_property
    def default_float(self) -> Any:
        """The dtype of a Python float."""
        return self.xp.float64

    @cached_property
    def index_dtype(self) -> Any:
        """The dtype of indices."""
        return self.xp.int64

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        """A number, a host array or an array of this library, as an array on this device."""
        if isinstance(value, np.ndarray | np.generic) and not self._is_host:
            value = value.tolist()  # numbers pass every border; host arrays do not
        return self.xp.asarray(value, dtype=dtype, device=self.device, copy=copy)

    def ratios(self, values: Any, dtype: Any) -> Array:
        """Ratios of small whole numbers, given as floats."""
        return self.asarray(values, dtype)

    def indices(self, which: Sequence[int] | np.ndarray) -> Array:
        """Places in an array, for `take`."""
        which = which.tolist() if isinstance(which, np.ndarray) else which
        return self.xp.asarray(list(which), dtype=self.index_dtype, device=self.device)

    _is_host = False

    def with_entry(self, fresh: Array, index: int, value: Array) -> Array:
        """`fresh`, an array of ours that nobody else holds, with one entry replaced."""
        fresh[index] = value
        return fresh

    def copy(self, array: Array) -> Array:
        """A new array with the same contents."""
        return self.xp.asarray(array, copy=True)

    def added(self, mine: Array, other: Array) -> Array:
        """The sum; `mine` is an array of ours that nobody else holds, which may become it."""
        return mine + other

    def detached(self, array: Array) -> Array:
        """The array without its history in the library's own differentiation."""
        return array

    def scalar(self, array: Array) -> Any:
        """What f receives for an argument that came as a Python float."""
        return array

    def gather(self, columns: Sequence[Array]) -> Array:
        """k arrays (m,) as one (m, k); a list of them may be emptied, so that they need not be there twice."""
        return self.xp.stack(list(columns), axis=-1)

    def settle(self, array: Array) -> Array:
        """The array computed, where the library is lazy."""
        return array

    def computed(self, *arrays: Array) -> tuple[Array, ...]:
        """Results of ours, computed, where the library is lazy: else 0 / 0 of a tableau warns when the user computes."""
        return arrays

    @property
    def is_lazy(self) -> bool:
        """Whether values are known only once they are asked for."""
        return False

    @property
    def below(self) -> Backend:
        """That of plain arrays, where arrays are traced."""
        return self

    @property
    def host(self) -> Backend | None:
        """Where strategies compute, if not on arrays of this library: where an operation costs far more than on the host."""
        return None

    def to_host(self, *arrays: Array) -> tuple[Array, ...]:
        """Arrays for `host`, computed together."""
        return arrays

    def from_host(self, array: Array, like: Array) -> Array:
        """An array of `host` (n,) or (n, k) as one of this library, laid out as `like` (n,)."""
        return self.asarray(array)

    def as_numpy(self, array: Array) -> np.ndarray:
        """A copy on the host, for what the user asked to have there: a file, another process."""
        (array,) = self.to_host(array)
        if isinstance(array, np.ndarray):
            return array
        default = self.xp.__array_namespace_info__().default_device()  # of the library, which is the host as a rule
        return np.asarray(array_api_compat.to_device(array, default))

    def of_bytes(self, data: bytearray, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of what `as_numpy` gave, read back from a file."""
        like = self.as_numpy(self.asarray([0.0], dtype))
        return self.asarray(np.frombuffer(data, dtype=like.dtype).reshape(shape), dtype)

    def memory_in_use(self) -> tuple[int, int] | None:
        """Bytes that the process holds on the device, now and at most so far; None where nobody tells."""
        return memory_in_use()

    def read(self, codes: Array) -> list[int]:
        """The one place where the host waits for the device: a 1-D array of small integers."""
        return [int(codes[i]) for i in range(codes.shape[0])]

    def counts(self, *masks: Array) -> list[int]:
        """How many entries are true in each; one read."""
        xp = self.xp
        return self.read(xp.stack([xp.sum(xp.astype(mask, self.index_dtype)) for mask in masks]))

    def number(self, array: Array) -> float:
        """A 0-d array told to the user as a number: it may wait, and no derivative is made of it."""
        return float(array)

    def ray(self, n: int, dtype: Any) -> Array:
        """n numbers in ±[1/2, 1], always the same ones."""
        return self.asarray(_host_ray(n), dtype)

    def elsewhere(self, device: Any) -> Backend:
        """The same library on another of its devices."""
        probe = array_api_compat.to_device(self.xp.zeros((0,), device=self.device), device)
        return replace(self, device=array_api_compat.device(probe))

    def moved(self, array: Array) -> Array:
        """An array of this library, on this device."""
        return array_api_compat.to_device(array, self.device)

    def operator(self, n: int, dtype: Any, product: Callable[[Array], Array]) -> Any:
        """A symmetric linear operator (n, n) of the kind that the library's iterative solvers take.

        Raises
        ------
        TypeError
            The library has none.
        """
        raise TypeError(
            f"{self.xp.__name__} has no linear operators: pass NumPy or CuPy arrays, or give hvp to a solver that takes functions"
        )

    def on_device(self) -> contextlib.AbstractContextManager[Any]:
        """Entered once a public call: what is created lands on x's device."""
        return contextlib.nullcontext()

    def flat(self, value: Any) -> Array | None:
        """A copy (m,) of what f returned, where it is one real floating array or number of this library; else None."""
        return None

    def recorded(self, _function: Callable[[Array], Any], _x: Array) -> Any:
        """F (n,) to (m,) at x by the library's own differentiation, as a `Tape`; None: it has none, and f is traced."""
        return None

    def vmapped(self, _function: Callable[[Array], Any]) -> Callable[[Array], Any] | None:
        """Of a function of one point (n,), one of a block (n, k) that gives the k points first; None: there is no vmap."""
        return None

    def error_state(self) -> dict[str, Any]:
        """How the caller wants floating-point errors to be handled."""
        return np.geterr()  # type: ignore[return-value]

    def openly(self, error_state: dict[str, Any]) -> contextlib.AbstractContextManager[Any]:
        """Entered where f is evaluated at x itself: what it warns of there is the user's."""
        return np.errstate(**error_state)

    def quietly(self) -> contextlib.AbstractContextManager[Any]:
        """Entered around a derivative: log(-1) at a displaced point and 0 / 0 in a tableau are expected."""
        return np.errstate(all="ignore")

    def synchronize(self, *arrays: Array) -> None:
        """Wait until the device has made these arrays: a clock that is read before measures launches."""

    def free_memory(self) -> int | None:
        """Bytes that arrays may still take on the device; None where the library does not tell."""
        return free_memory()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the library says by `error` that memory ran out."""
        return isinstance(error, MemoryError)


def _restore(kind: type[Backend], namespace: str, device: Any) -> Backend:
    return kind(importlib.import_module(namespace), device)


@lru_cache(RAYS)
def _host_ray(n: int) -> np.ndarray:
    random = np.random.Generator(np.random.PCG64(RAY_SEED))
    ray: np.ndarray = random.uniform(0.5, 1.0, n)
    for start in range(0, n, RAY_PART):
        part = ray[start : start + RAY_PART]
        part *= random.choice(np.array([-1.0, 1.0]), part.size)
    ray.flags.writeable = False
    return ray
