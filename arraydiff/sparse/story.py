"""What explain() tells of a sparse derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from arraydiff.binding import Bound
from arraydiff.explain import CLAIMS, SHOWN, opened
from arraydiff.result import UNVOUCHED, DerivativeResult, Status
from arraydiff.sparse.checking import named
from arraydiff.sparse.pattern import Ints, Pattern
from arraydiff.sparse.sparsity import Sparsity
from arraydiff.vouching import Judged

VISIBLE = "entries below about 1e-8 of their row may be missing unseen: they are smaller than the error bars"


@dataclass(frozen=True)
class SparseStory:
    """Kept flat until it is asked for."""

    title: str
    bound: Bound
    row: Callable[[int], str]  # as it stands before the parameter of its column
    sparsity: Sparsity
    entries: Pattern  # of the derivative
    directions: str  # how many
    judged: Judged
    repaired: Ints

    def told(self, result: DerivativeResult) -> str:
        """The sentences."""
        known, batching = self.sparsity, self.bound.problem.call.batching
        lines = opened(self.title, result, batching.told if batching is not None else "")
        lines.append(
            f"{self.entries.nnz} entries of {self.entries.shape[0]} x {self.entries.shape[1]} in {self.directions}; "
            f"the longest row has {known.lower_bound}. The pattern is that of the points visited; {VISIBLE}."
        )
        if self.repaired.size:
            lines.append(f"The pattern lacked entries of {named(self.repaired)}, which were found and added.")
        return "\n".join(lines + self._doubts(result))

    def _doubts(self, result: DerivativeResult) -> list[str]:
        judged, backend = self.judged, self.bound.problem.backend
        if not self.entries.nnz:
            return ["There are no entries."]
        with backend.quietly():
            parts = [
                backend.as_numpy(part)[:, 0] for part in (judged.mask(), judged.columns, judged.error, judged.status)
            ]
        doubtful, values, error, status = parts
        places = np.flatnonzero(doubtful)
        counted = ~doubtful.astype(bool) & (values != 0)
        largest = float(np.max(error[counted] / np.abs(values[counted]), initial=0.0))
        method = result.method_used
        claim = (
            "right in order of magnitude"
            if isinstance(method, tuple)
            else CLAIMS.get(method, "right in order of magnitude")
        )
        bar = f"the largest relative error bar is {largest:.1e} ({claim})"
        if not places.size:
            return [f"All {values.size} entries are vouched for; {bar}."]
        head = f"{places.size} of {values.size} entries are not vouched for; among the others {bar}."
        tail = [f"... and {places.size - SHOWN} more."] * (places.size > SHOWN)
        return [head, *(self._entry(i, values[i], error[i], Status(int(status[i]))) for i in places[:SHOWN]), *tail]

    def _entry(self, i: int, value: float, error: float, status: Status) -> str:
        row, column = int(self.entries.rows[i]), int(self.entries.cols[i])
        where = f"{self.row(row)} / d x{self.bound.layout.path(column)}"
        if status & UNVOUCHED:
            names = ", ".join(flag.name or "" for flag in status)
            return f"  {where} = {value:.6g} ± {error:.1g}: {names}; {status.remedy}"
        return (
            f"  {where} = {value:.6g} ± {error:.1g}: the error bar is wide; give scale= or noise=, or make f more exact"
        )
