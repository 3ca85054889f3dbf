"""A pattern with its colours: made once, kept, passed to any number of derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from arraydiff.sparse.clashes import checked, count_of, numbered
from arraydiff.sparse.colouring import coloured, star_coloured
from arraydiff.sparse.curved import Items
from arraydiff.sparse.halves import Halves, halves_of
from arraydiff.sparse.order import Order
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.sides import Sides
from arraydiff.sparse.star import recovery
from arraydiff.sparse.tiles import Tiling
from arraydiff.sparse.two_sided import FEWEST, PULLBACK, WORTH, TwoSided, promised, two_sided

__all__ = ["Sparsity"]

NAMED = 8
"""Rows that a sentence names before it says how many more there are."""

FEW = 0.05
"""Of all rows: if more are dense, the matrix is."""

COLOURINGS = ("colours", "star")
"""What is made when first asked for, and kept."""

MADE_ANEW = ("_order", "_halves", "_sides", "of_sum", "tiling")
"""What is not pickled: making it takes less than sending it."""

KEPT = 2**21
"""Entries up to which their order is kept: 64 MB."""

T = TypeVar("T")

UNSEEN = (
    "The pattern is that of the points visited. The check in every call cannot see an entry below about 1e-8 of its row: such an "
    "entry is smaller than the error bars."
)


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
        Whether the pattern was found from values of the function, or traced; then entries that a check misses are searched
        for and added, where a pattern of the user's raises :class:`SparsityError`.

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
        """The pattern of a function read off one call: that of every x which takes the same branches.

        ``np.where``, ``np.maximum`` and ``np.sort`` count with all that they choose from, ``if x[0] > 0`` and ``x[x > 0]`` with
        what they chose at this x: another x may add to the pattern, as the check in every call finds out.

        Parameters
        ----------
        fun : callable
            As the exact method follows it: NumPy, methods and operators of arrays, the array API.
        x : array, or a tree of arrays
            Of the shape that `fun` takes.

        Returns
        -------
        Sparsity

        Raises
        ------
        TypeError, ValueError
            Where f cannot be followed, with the line that says so; :meth:`detect` remains.
        """
        from arraydiff.sparse.tracing import trace_pattern

        return cls(trace_pattern(fun, x), detected=True)

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

    @cached_property
    def both_ways(self) -> Sparsity:
        """The same with (j, i) for each (i, j): a Hessian of which a triangle was given."""
        return self if self.pattern.symmetric else Sparsity(self.pattern.mirrored, self.detected)

    @cached_property
    def promised(self) -> float:
        """What products on both sides may cost, in products J·v: that of the columns alone, unless it is far less."""
        count, (m, n) = self.count, self.shape
        told = max(m, n / PULLBACK) * WORTH * count  # entries, at most, by products that cost no more than that
        if (self.optimal and count <= FEWEST) or self.pattern.nnz > told:
            return float(count)
        least = promised(self.pattern)
        return least if least <= WORTH * count else float(count)

    @cached_property
    def two_sided(self) -> TwoSided | None:
        """Colours of columns and rows where products on both sides cost less than those of the columns alone."""
        if self.promised >= self.count:
            return None
        found = two_sided(self.pattern, self.colours)
        return found if found.by_rows.any() and found.cost < self.count else None

    @property
    def sides(self) -> Sides | None:
        """The entries of either side by colour; kept where it takes little room."""
        both = self.two_sided
        return None if both is None else self._kept("_sides", lambda: Sides.of(both))

    @cached_property
    def of_sum(self) -> Sparsity:
        """Of the Hessian of a sum whose terms have this pattern."""
        n = self.shape[1]
        items = Items.of_terms(self.pattern, np.ones(n, dtype=np.bool_))
        return Sparsity(items.both_ways(n), self.detected)

    @property
    def order(self) -> Order:
        """The entries by colour; kept where it takes little room."""
        return self._kept("_order", lambda: Order(self.pattern, self.colours))

    def halves(self, free: np.ndarray) -> Halves:
        """Where each entry of a Hessian is read off; kept where all parameters are free and it takes little room."""
        if not free.all():
            return halves_of(self.pattern, self.star, free)
        return self._kept("_halves", lambda: halves_of(self.pattern, self.star, free))

    def _kept(self, name: str, make: Callable[[], T]) -> T:
        """What is made once, where it takes little room; else each time."""
        known: T | None = self.__dict__.get(name)
        if known is None:
            known = make()
            if self.pattern.nnz <= KEPT:
                self.__dict__[name] = known
        return known

    @cached_property
    def tiling(self) -> Tiling:
        """The rows in tiles, for products of the matrix with itself."""
        return Tiling.of(self.pattern)

    @property
    def count(self) -> int:
        """Colours of the columns: so many directions are needed."""
        return count_of(self.colours)

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
        """Rows that make the directions many: few, on half of the inputs or more, and twice as long as the others."""
        lengths = self.pattern.lengths
        longest = np.argsort(-lengths, kind="stable")
        few = int(np.count_nonzero(2 * lengths > self.lower_bound))
        many = 2 * self.lower_bound < self.shape[1] or few > max(1, FEW * self.shape[0])
        return _read_only(np.sort(longest[: 0 if many else few]))

    def explain(self) -> str:
        """Size, colours, what makes them many, and what no check can see, in words."""
        m, n = self.shape
        source = "found from the function" if self.detected else "given"
        lines = [
            f"Sparsity pattern of a {m} x {n} matrix, {source}: {self.pattern.nnz} entries.",
            f"{self.count} colours of columns; the longest row has {self.lower_bound} entries, {self._verdict()}.",
        ]
        if "star" in self.__dict__:
            lines.append(f"{count_of(self.star)} colours where symmetry gives the rest.")
        both = self.__dict__.get("two_sided")
        if both is not None:
            lines.append(f"{Sides.of(both).told}, where f can be followed.")
        if self.dense_rows.size:
            lines.append(self._burden())
        elif 2 * self.count > n > 1:
            lines.append(f"A dense derivative takes {n} directions: it is about as cheap.")
        return "\n".join([*lines, UNSEEN])

    def _verdict(self) -> str:
        return "so no colouring has fewer" if self.optimal else "so at least that many are needed"

    def _burden(self) -> str:
        one = self.dense_rows.size == 1
        others = np.delete(self.pattern.lengths, self.dense_rows).max(initial=0)
        return (
            f"{_rows(self.dense_rows)} {'depends' if one else 'depend'} on {self._share()} inputs: {self.lower_bound} "
            f"directions, where the other rows need at least {others}; leave {'it' if one else 'them'} out or pass "
            f"{'its' if one else 'their'} gradient."
        )

    def _share(self) -> str:
        return "all" if self.lower_bound == self.shape[1] else f"up to {self.lower_bound} of {self.shape[1]}"

    def save(self, path: str | Path) -> None:
        """Keep it in a file, in NumPy's format for several arrays, with the colours made so far.

        Parameters
        ----------
        path : str or Path
            Of the file, to the letter; one that is there is written over.
        """
        pattern, made = self.pattern, {name: self.__dict__[name] for name in COLOURINGS if name in self.__dict__}
        if self.given is not None:
            made["colours"] = self.given
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file, rows=pattern.rows, cols=pattern.cols, shape=self.shape, detected=self.detected, **made
            )

    @classmethod
    def load(cls, path: str | Path) -> Sparsity:
        """What `save` kept.

        Parameters
        ----------
        path : str or Path
            Of the file.

        Returns
        -------
        Sparsity

        Raises
        ------
        ValueError
            The file was not written by `save`, or colours in it do not fit the pattern.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                kept = {name: file[name] for name in file.files}
            pattern = Pattern.of((kept["rows"], kept["cols"], kept["shape"].tolist()))
            detected = bool(kept["detected"])
        except (KeyError, TypeError, ValueError, AttributeError, BadZipFile, EOFError) as error:
            raise ValueError(f"{path} holds no Sparsity; give a file that Sparsity.save has written") from error
        loaded = cls(pattern, detected, checked(pattern, kept["colours"]) if "colours" in kept else None)
        if "star" in kept:
            loaded.__dict__["star"] = _read_only(_fitting(pattern, kept["star"]))
        return loaded

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in self.__dict__.items() if name not in MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for made in state.values():
            if isinstance(made, np.ndarray):
                _read_only(made)  # which a pickle does not tell


def _read_only(colours: Ints) -> Ints:
    colours.flags.writeable = False
    return colours


def _fitting(pattern: Pattern, star: Ints) -> Ints:
    if star.shape != pattern.shape[1:] or not pattern.symmetric:
        raise ValueError("star colours must be one a column of a symmetric pattern; make the Sparsity anew")
    star = numbered(pattern, star)
    recovery(pattern, star)  # raises where an entry cannot be recovered
    return star


def _rows(which: Ints) -> str:
    """Rows by number: "Row 3", "Rows 0 and 7", "Rows 0, 1, 2, ... and 40 others"."""
    if which.size == 1:
        return f"Row {which[0]}"
    named = ", ".join(map(str, which[:NAMED].tolist()))
    if which.size > NAMED:
        return f"Rows {named} and {which.size - NAMED} others"
    return "Rows " + " and ".join(named.rsplit(", ", 1))
