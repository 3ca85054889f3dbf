"""A residual in blocks of rows: as a function of a label, or as several functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class WithBlock:
    """A residual of one block: the label is its last positional argument."""

    fun: Callable[..., Any]
    label: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fun(*args, self.label, **kwargs)


class Parts:
    """Residuals of the blocks, one callable each; what can be gone through once says so the second time."""

    def __init__(self, functions: Iterable[Callable[..., Any]]) -> None:
        again = isinstance(functions, Sequence)
        self.functions: Iterable[Callable[..., Any]] = tuple(functions) if again else functions
        self.once, self.used = not again, False
        self.__name__ = "residual"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("the residual was given in blocks: call normal_equations' result instead")

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        if self.once and self.used:
            raise ValueError(
                "the residual was given as an iterator of callables, which was used up by the call before: pass a list of them"
            )
        self.used = True
        for function in self.functions:
            if not callable(function):
                raise TypeError(f"a block of the residual must be callable, got {type(function).__name__}")
            yield function
