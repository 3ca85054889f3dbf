"""Every option of arraydiff: its default, its check and its sentence, in one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from arraydiff.memory import not_a_size

__all__ = ["DifferentiationConfig", "DifferentiationMethod"]

ORDERS = {"central": (2, 4, 6, 8), "forward": (1, 2), "backward": (1, 2)}
LATER = ("sparsity", "verify_pattern", "terms", "gradient", "f0", "in_axes")
LONGEST_SHOWN = 8
UNRELIABLE = ("warn", "raise", "nan", "ignore")


class DifferentiationMethod(StrEnum):
    """The ways to a derivative; a name in any case stands for its member.

    Examples
    --------
    >>> DifferentiationMethod("Central")
    <DifferentiationMethod.CENTRAL: 'central'>
    """

    ADAPTIVE = "adaptive"
    EXACT = "exact"
    COMPLEX_STEP = "complex_step"
    RICHARDSON = "richardson"
    CENTRAL = "central"
    FORWARD = "forward"
    BACKWARD = "backward"

    @classmethod
    def _missing_(cls, value: object) -> DifferentiationMethod | None:
        name = value.lower().replace("-", "_") if isinstance(value, str) else None
        return next((member for member in cls if member.value == name), None)


Check = Callable[[Any], str | None]
"""Says what is wanted instead, or None where the value will do."""


def option(default: Any, check: Check | None = None, *, doc: str) -> Any:
    """One option: a dataclass field that carries its check and its sentence."""
    return field(default=default, metadata={"check": check, "doc": doc})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _positive(value: Any) -> str | None:
    return None if _is_number(value) and value > 0 else "wants a number > 0"


def _fraction(value: Any) -> str | None:
    return None if _is_number(value) and 0 < value < 1 else "wants a number between 0 and 1"


def _count(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return None if whole and value >= 1 else "wants a whole number >= 1"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "wants True or False"


def _sizes(value: Any) -> str | None:
    """Numbers are checked here; arrays and structures of x are, once x is known."""
    return None if not isinstance(value, bool | int | float | str) else _positive(value)


def _noise(value: Any) -> str | None:
    """Numbers are checked here; arrays and what a callable gives are, once f(x) is known."""
    if isinstance(value, str):
        return None if value == "auto" else NOISE_WANTED
    if isinstance(value, bool | int | float):
        return None if _is_number(value) and value >= 0 else NOISE_WANTED
    return None


NOISE_WANTED = (
    "wants None, 'auto', a number >= 0, an array of one level for each output of f, or a callable of x for these"
)


def _workers(value: Any) -> str | None:
    from arraydiff.workers import crew_of  # which loads what processes need

    crew_of(value)  # it says itself what is wanted
    return None


def _store(value: Any) -> str | None:
    if hasattr(value, "__setitem__") and hasattr(value, "__getitem__") and hasattr(value, "keys"):
        return None
    return "wants a mapping that keeps bytes by text, such as a dict or shelve.open(path)"


def _progress(value: Any) -> str | None:
    return None if isinstance(value, bool) or callable(value) else "wants True, False, or a callable(done, expected)"


def _vectorized(value: Any) -> str | None:
    return None if isinstance(value, bool) or value == "auto" else "wants True, False or 'auto'"


def _devices(value: Any) -> str | None:
    return None if isinstance(value, list | tuple) and value else "wants a list of devices of x's library"


def _bounds(value: Any) -> str | None:
    if hasattr(value, "lb") and hasattr(value, "ub"):  # scipy.optimize.Bounds
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        pairs = isinstance(value, tuple | list) and all(isinstance(v, tuple | list) and len(v) == 2 for v in value)
        hint = "; a list of (low, high) pairs becomes one with zip(*pairs)" if pairs else ""
        return f"wants (lower, upper), each a number, an array or a structure of x, None for open{hint}"
    if isinstance(value, list) and all(isinstance(v, tuple) for v in value):
        return "wants a tuple (lower, upper); a list of (low, high) pairs becomes one with tuple(zip(*pairs))"
    return None


def _one_of(*names: object) -> Check:
    return lambda value: None if value in names else f"wants one of {', '.join(map(repr, names))}"


@dataclass(frozen=True, kw_only=True)
class DifferentiationConfig:
    """All options of a derivative, checked when made.

    Every field is also a keyword of :func:`grad`, :func:`jacobian` and their kin.  `help(arraydiff)` and the docs
    print what each one means; ``DifferentiationConfig.describe()`` gives the same table.

    Raises
    ------
    TypeError
        An option that does not exist; the nearest one is named.
    ValueError
        A value that cannot be served, with what is wanted instead.

    Examples
    --------
    >>> DifferentiationConfig(method="central", order=4)
    DifferentiationConfig(method='central', order=4)
    """

    method: DifferentiationMethod = option(
        DifferentiationMethod.ADAPTIVE, doc="the way to the derivative: a DifferentiationMethod or its name in any case"
    )
    order: int | None = option(
        None, doc="accuracy order of a stencil: central 2, 4, 6, 8 (None: 2), forward and backward 1, 2 (None: 1)"
    )
    step_size: Any = option(
        None, _optional(_sizes), doc="absolute step h, a number or an array of the structure of x; points are x + k h"
    )
    relative_step: float | None = option(None, _optional(_positive), doc="h = relative_step * scale")
    min_step: float | None = option(None, _optional(_positive), doc="least step that may be chosen, absolute")
    max_step: float | None = option(None, _optional(_positive), doc="largest step that may be chosen, absolute")
    scale: Any = option(None, _optional(_sizes), doc="typical size of each parameter; None: |x|, 1 where x is 0")
    bounds: Any = option(
        None, _optional(_bounds), doc="(lower, upper), each a number, array or structure of x, None for open"
    )
    error_tolerance: float | None = option(
        None, _optional(_positive), doc="relative accuracy that is enough; None: as accurate as can be had"
    )
    richardson_terms: int = option(4, _count, doc="rungs of the fixed ladder of 'richardson' when a step is given")
    max_iterations: int = option(4, _count, doc="most stages of the adaptive ladder")
    max_evaluations: int | None = option(
        None, _optional(_count), doc="points that are never exceeded; what could not be done is UNRESOLVED"
    )
    confidence: float = option(0.95, _fraction, doc="share of entries whose true error the error bar is to cover")
    noise: Any = option(
        "auto",
        _noise,
        doc="absolute noise (standard deviation) of f: a number, an array, a callable of x; None: exact; 'auto': measured",
    )
    opaque: bool = option(False, _flag, doc="True: f sees plain real arrays only, one point a call unless vectorized")
    trace: bool = option(True, _flag, doc="False: f is asked for values alone, and never followed with what records it")
    verify_trace: bool = option(
        True, _flag, doc="hold what tracing gives to plain f: its value, and its derivative along one random direction"
    )
    complex_step_threshold: float = option(
        1e-9, _positive, doc="largest relative disagreement of the certificate of the complex step"
    )
    vectorized: bool | str = option(
        False,
        _vectorized,
        doc="True: f takes (n, k) and gives (k,) or (m, k); 'auto': vmap, or blocks, where f takes them",
    )
    batch_axis: int = option(-1, _one_of(-1, 0), doc="0: a vectorized f takes (k, n) and gives (k,) or (k, m)")
    chunk_size: int | None = option(None, _optional(_count), doc="directions a chunk; None: as many as fit the cache")
    max_memory: Any = option(
        None,
        _optional(not_a_size),
        doc="extra memory beside what is returned and one call of f: bytes, '512 MB', or a fraction of what is free; None: half",
    )
    workers: Any = option(
        None,
        _optional(_workers),
        doc="who evaluates f: a number of processes, an Executor, a Client of Dask, or a map-like callable",
    )
    store: Any = option(
        None, _optional(_store), doc="a mapping that keeps finished evaluations, so that a job that died goes on"
    )
    devices: Any = option(
        None,
        _optional(_devices),
        doc="devices of x's library that chunks go round; f(device), called once for each, makes the function of that device",
    )
    progress: Any = option(False, _progress, doc="True: a bar or a line on stderr; a callable(done, expected)")
    unreliable: str = option(
        "warn", _one_of(*UNRELIABLE), doc="what a bare call does with entries that cannot be vouched for"
    )
    use_parallel: bool = option(False, _flag, doc="read from code written for homodyne; `workers` does what it meant")
    n_workers: int | None = option(None, _optional(_count), doc="read from code written for homodyne; see `workers`")

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", _method(self.method))
        for item in fields(self):
            check, value = item.metadata["check"], getattr(self, item.name)
            wanted = check(value) if check is not None else None
            if wanted is not None:
                raise ValueError(f"{item.name} {wanted}, got {value!r}")
        _check_order(self.method, self.order)
        _check_together(self)

    def __repr__(self) -> str:
        given = (f.name for f in fields(self) if not _is_default(f, getattr(self, f.name)))
        shown = (f"{name}={_shown(name, getattr(self, name))}" for name in given)
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def fixed_stages(self) -> bool:
        """Whether f is asked at points that do not depend on its values: such methods run inside jax.jit."""
        if self.method in (DifferentiationMethod.ADAPTIVE, DifferentiationMethod.RICHARDSON):
            return self.step_size is not None or self.relative_step is not None
        return self.method in ORDERS

    @property
    def follows(self) -> bool:
        """Whether the method differentiates f as it was written, where it can be followed."""
        return self.method in (DifferentiationMethod.ADAPTIVE, DifferentiationMethod.EXACT)

    def with_options(self, options: Mapping[str, Any], caller: str) -> DifferentiationConfig:
        """This config with some options replaced; `caller` is named where one does not exist."""
        if not options:
            return self
        names = [f.name for f in fields(self)]
        for name in options:
            if name == "out":
                raise ValueError(f"out is an option of jacobian, not of {caller}(): leave it out")
            if name in LATER:
                raise ValueError(f"{name} is not served yet by {caller}(): leave it out")
            if name not in names:
                raise TypeError(f"{caller}() has no option {name!r}{_nearest(name, names)}")
        return replace(self, **options)

    @classmethod
    def describe(cls) -> str:
        """One line an option: name, default, meaning."""
        return "\n".join(f"{f.name} ({_short(f.default)}): {f.metadata['doc']}" for f in fields(cls))


def _method(value: Any) -> DifferentiationMethod:
    try:
        return DifferentiationMethod(value)
    except ValueError:
        names = ", ".join(repr(m.value) for m in DifferentiationMethod)
        raise ValueError(f"method wants one of {names}, got {value!r}") from None


def _check_order(method: DifferentiationMethod, order: int | None) -> None:
    allowed = ORDERS.get(method)
    if order is None or (allowed and order in allowed and not isinstance(order, bool)):
        return
    if allowed is None:
        raise ValueError(
            f"order is an option of the methods {', '.join(ORDERS)}, not of {method.value!r}: leave it out"
        )
    raise ValueError(f"order of {method.value!r} wants one of {allowed}, got {order!r}")


def _check_together(config: DifferentiationConfig) -> None:
    if config.method is DifferentiationMethod.EXACT and (config.opaque or not config.trace):
        raise ValueError("method='exact' follows f, which opaque=True and trace=False rule out: leave one of them out")
    if config.step_size is not None and config.relative_step is not None:
        raise ValueError("step_size and relative_step exclude each other: leave one out")
    if config.min_step is not None and config.max_step is not None and config.min_step > config.max_step:
        raise ValueError(f"min_step must be <= max_step, got {config.min_step!r} > {config.max_step!r}")


def _is_default(item: Field[Any], value: Any) -> bool:
    if item.default is MISSING or item.default is value:
        return True
    return isinstance(value, bool | int | float | str) and bool(value == item.default)


def _shown(name: str, value: Any) -> str:
    return f"<{type(value).__name__}>" if name == "store" else _short(value)


def _short(value: Any) -> str:
    """An array is told by its type: printing one could wait for a device."""
    plain = isinstance(value, bool | int | float | tuple | list | dict | type(None)) and not _is_long(value)
    return repr(str(value)) if isinstance(value, str) else repr(value) if plain else f"<{type(value).__name__}>"


def _is_long(value: Any) -> bool:
    return isinstance(value, tuple | list | dict) and len(value) > LONGEST_SHOWN


def _nearest(name: str, names: list[str]) -> str:
    import difflib  # for an error only: it costs import time

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; the options are {', '.join(names)}"
