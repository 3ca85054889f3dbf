"""A pattern with its colours: made once, kept, passed to any number of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from arraydiff.sparse.colouring import checked, coloured, star_coloured
from arraydiff.sparse.pattern import Ints, Pattern

__all__ = ["Sparsity"]

NAMED = 8
"""Rows that a sentence names before it says how many more there are."""


@dataclass(frozen=True, eq=False)
class Sparsity:
    """Which entries of a Jacobian or Hessian may differ from zero, and which columns are moved together.

    Made by :meth:`from_pattern`, :meth:`detect` or :meth:`trace`, and passed as ``sparsity=``. It is immutable and can be
    pickled; colours are made when they are first asked for, and kept.

    Attributes
    ----------
    pattern : Pattern
        The entries: ``rows``, ``cols`` and ``shape``.
    detected : bool
        Whether the pattern was found from values of the function; then entries that a check misses are searched for and
        added, where a pattern of the user's raises :class:`SparsityError`.

    Examples
    --------
    >>> import numpy as np
    >>> from arraydiff.sparse import Sparsity
    >>> sparsity = Sparsity.from_pattern(np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool))
    >>> sparsity.colours, sparsity.count, sparsity.optimal
    (array([0, 1, 0, 1]), 2, True)
    """

    pattern: Pattern
    detected: bool = False
    given: Ints | None = None

    @classmethod
    def from_pattern(cls, pattern: Any, colours: Any = None) -> Sparsity:
        """The pattern that is known.

        Parameters
        ----------
        pattern : array of scipy.sparse, boolean array (m, n), or (rows, cols, shape)
            Which entries may differ from zero; of a sparse array its structure counts, explicit zeros too.
        colours : array of int, shape (n,), optional
            A colouring of the columns from another tool. It is checked.

        Returns
        -------
        Sparsity

        Raises
        ------
        ValueError
            Indices outside the shape; two columns of a row with one colour.
        TypeError
            Anything that is no pattern.
        """
        known = Pattern.of(pattern)
        return cls(known, given=None if colours is None else checked(known, colours))

    @classmethod
    def detect(
        cls, fun: Callable[..., Any], x: Any, points: int = 3, method: str = "sketch", **options: Any
    ) -> Sparsity:
        """The pattern of a function, found from its values at x and at points near it.

        Parameters
        ----------
        fun : callable
            As in :func:`arraydiff.jacobian`.
        x : array
            Where.
        points : int, default 3
            Points at which the pattern is looked at: entries that vanish at all of them are not in it.
        method : {"sketch", "group", "nan"}
            How: "group" for a few very dense columns; "nan" is blind behind ``where``.
        **options
            Fields of :class:`arraydiff.DifferentiationConfig`, such as ``bounds``.

        Returns
        -------
        Sparsity
        """
        from arraydiff.sparse.detection import detect_pattern

        return cls(detect_pattern(fun, x, points, method, options), detected=True)

    @classmethod
    def trace(cls, fun: Callable[..., Any], x: Any) -> Sparsity:
        """The pattern of a function of NumPy, read off one call: that of every x which takes the same branches.

        Parameters
        ----------
        fun : callable
            Of NumPy functions alone.
        x : array
            Of the shape that `fun` takes.

        Returns
        -------
        Sparsity

        Raises
        ------
        TypeError, ValueError
            Where it cannot be read off; :meth:`detect` remains.
        """
        from arraydiff.sparse.tracing import trace_pattern

        return cls(trace_pattern(fun, x))

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.pattern.shape

    @cached_property
    def colours(self) -> Ints:
        """Colour of each column, shape (n,); -1 for a column without entries."""
        return _read_only(coloured(self.pattern) if self.given is None else self.given)

    @cached_property
    def star(self) -> Ints:
        """Colour of each column of a symmetric pattern, such that symmetry gives the rest."""
        return _read_only(star_coloured(self.pattern))

    @property
    def count(self) -> int:
        """Colours of the columns: so many directions are needed."""
        return int(self.colours.max(initial=-1)) + 1

    @property
    def lower_bound(self) -> int:
        """The longest row: no colouring needs fewer."""
        return int(self.pattern.lengths.max(initial=0))

    @property
    def optimal(self) -> bool:
        """Whether no colouring has fewer colours."""
        return self.count == self.lower_bound

    @cached_property
    def dense_rows(self) -> Ints:
        """Rows so much longer than the others that they alone make the directions many."""
        return np.zeros(0, dtype=np.int64)

    def explain(self) -> str:
        """Size, colours and what makes them many, in words."""
        return f"{self.shape}: {self.pattern.nnz} entries, {self.count} colours"

    def save(self, path: str | Path) -> None:
        """Keep it in a file, in NumPy's format (.npz), with the colours made so far."""

    @classmethod
    def load(cls, path: str | Path) -> Sparsity:
        """What `save` kept; colours are checked once more."""
        raise NotImplementedError


def _read_only(colours: Ints) -> Ints:
    colours.flags.writeable = False
    return colours
