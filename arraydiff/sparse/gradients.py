"""A sparse Hessian by differences of the user's gradient: its Jacobian on fewer lines, since each entry stands in it twice.

A star colouring leaves (i, j) alone with its colour in row i, or (j, i) in row j.  That one number is taken for both, so that the
Hessian is symmetric to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from arraydiff.seam import Prepared, Rounds
from arraydiff.sparse.checking import Verdict, verdict
from arraydiff.sparse.clashes import count_of
from arraydiff.sparse.compressed import Along, Recovered
from arraydiff.sparse.request import Made, Request
from arraydiff.sparse.seeds import Seeds
from arraydiff.sparse.sparsity import Sparsity


@dataclass(frozen=True)
class GradientRequest(Request):
    """One Hessian by the user's gradient."""

    asked = "the gradient and its Hessian"

    @property
    def _sides(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return ("parameters", "the gradient has"), ("parameters", "x has")

    def _directions(self, known: Sparsity) -> int:
        return count_of(known.star)

    def _both(self, prepared: Prepared, known: Sparsity) -> None:
        """Symmetry tells what cotangents would."""

    def _asked(self, known: Sparsity, seeds: Seeds) -> range:
        return range(seeds.count + len(seeds.checks))

    def _lined(self, known: Sparsity, real: bool = True) -> Seeds:
        return self._seeds(known.halves(self.free).order, real=real)

    def _whole(self, known: Sparsity, got: Recovered) -> Recovered:
        return replace(got, entries=got.entries.taken(self.here, known.halves(self.free).places))

    def _verdict(
        self, prepared: Prepared, known: Sparsity, seeds: Seeds, got: Recovered, along: tuple[Along, ...]
    ) -> Verdict:
        return verdict(self.problem, prepared, known, got.entries, along, np.flatnonzero(self.free))

    def _confirmed(self, made: Made) -> Rounds[Made]:
        after = yield from super()._confirmed(made)
        pattern, got = made.sparsity.pattern, after.got
        fresh = np.isin(pattern.rows, np.setdiff1d(made.rows, after.rows))
        mirror = pattern.by_columns
        other = fresh[mirror] & ~(fresh & (pattern.rows <= pattern.cols))  # what was made anew is taken for both
        entries = got.entries.taken(self.here, np.where(other, mirror, np.arange(pattern.nnz)))
        return replace(after, got=replace(got, entries=entries))

    def _grown(self, prepared: Prepared, made: Made, times: int) -> Rounds[Sparsity | None]:
        grown = yield from super()._grown(prepared, made, times)
        return None if grown is None else grown.both_ways

    def _detected(self) -> Rounds[Sparsity]:
        return (yield from super()._detected()).both_ways
