"""What a matrix with error bars says of the parameters that are free, and what of it is in doubt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arraydiff import assembly
from arraydiff.covariances.given import Given
from arraydiff.covariances.result import Direction
from arraydiff.covariances.spectrum import Spectrum, echelon, spectrum
from arraydiff.result import Status

FACTORS = {"nll": 1.0, "chi2": 2.0}
"""Times the inverse Hessian: one half, and one, of the rise of the objective at one standard error."""

WIDE = 0.01
"""Differentiation error of a standard error beyond which it is told: it is quoted with two digits."""

SHOWN = 4
"""Parameters that are named of a direction."""

SHARE = 0.1
"""Components below this share of the largest one are not named."""

NOT_FINITE = "the matrix has entries that are not finite, so nothing is known."
NO_MINIMUM = (
    "the matrix has negative curvature that its error bars do not explain: x is no minimum, so go on minimising."
)
UNDETERMINED = (
    "the matrix does not determine some parameters: fix one of each combination, or add data that tells them apart."
)
TOO_WIDE = (
    "differentiation error makes up more than 1 % of some standard errors: make f more exact, or give noise= or scale=."
)


@dataclass(frozen=True)
class Judged:
    """A matrix, and what it says of the parameters that are free."""

    given: Given
    objective: str
    scale: float | str | None
    count: int | None

    @cached_property
    def free(self) -> np.ndarray:
        """(n,) parameters that bounds do not hold."""
        return ~self.given.fixed

    @cached_property
    def finite(self) -> bool:
        """Whether all entries are."""
        return bool(np.all(np.isfinite(self._of_free(self.given.matrix))))

    @cached_property
    def spectrum(self) -> Spectrum:
        """Of the free parameters; of nothing where entries are not finite."""
        matrix, bars = (self._of_free(part) for part in (self.given.matrix, self.given.bars))
        return spectrum(matrix, bars) if self.finite else spectrum(matrix[:0, :0], bars[:0, :0])

    def _of_free(self, whole: np.ndarray) -> np.ndarray:
        part: np.ndarray = whole[np.ix_(self.free, self.free)]
        return part

    @cached_property
    def rank(self) -> int:
        """Directions of positive curvature."""
        return int(np.sum(~self.spectrum.lost & ~self.spectrum.negative))

    @cached_property
    def variance(self) -> tuple[float, float]:
        """What the residuals say of their variance, and its relative bar; 1 where it is known."""
        if self.scale is None:
            return 1.0, 0.0
        if not isinstance(self.scale, str):
            return float(self.scale), 0.0
        squares, m = self.given.value, self.count if self.count is not None else self.given.rows
        if squares is None or not (self.given.normal or self.objective == "chi2"):
            raise ValueError(
                "scale='residuals' needs their sum of squares: give normal_equations(residual).result(x), or the result of the "
                "Hessian of a sum of squares with objective='chi2', or the number itself as scale="
            )
        if m is None:
            raise ValueError("scale='residuals' needs the number of residuals that count: give count=")
        if m <= self.rank:
            raise ValueError(
                f"scale='residuals' needs more residuals than parameters, got {m} and {self.rank}; leave it out"
            )
        return squares / (m - self.rank), self.given.value_bar / squares if squares > 0 else 0.0

    @cached_property
    def factor(self) -> float:
        """Times the inverse of the matrix."""
        return self.variance[0] * (1.0 if self.given.normal else FACTORS[self.objective])

    @cached_property
    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        """(n,) parameters with a share in undetermined, and in negative, directions."""
        found = []
        for which in (self.spectrum.lost, self.spectrum.negative):
            mask = np.zeros(len(self.free), dtype=bool)
            if self.finite and np.any(which):
                mask[self.free] = self.spectrum.touched(which)
            found.append(mask)
        return found[0], found[1]

    @cached_property
    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """The covariance and its bar, (n, n)."""
        n = len(self.free)
        values, bars = np.zeros((n, n)), np.zeros((n, n))
        inside = np.ix_(self.free, self.free)
        if self.finite:
            values[inside] = self.factor * self.spectrum.covariance
            bars[inside] = self.factor * self.spectrum.error + self.variance[1] * np.abs(values[inside])
        else:
            values[inside], bars[inside] = np.nan, np.inf
        undetermined, negative = self.masks
        touched = (undetermined | negative) & self.free
        for one in (touched[:, None] & self.free, touched & self.free[:, None]):
            values[one], bars[one] = np.nan, np.inf
        values[np.diag(undetermined & ~negative)] = np.inf
        return values, bars

    @cached_property
    def errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors and their bars, (n,)."""
        values, bars = (np.diag(part) for part in self.matrices)
        std = np.sqrt(values)
        both = std + np.sqrt(np.maximum(values - bars, 0.0))  # bar / both >= |std - sqrt(var ± bar)|
        some = np.isfinite(bars) & (both > 0)
        return std, np.where(some, bars / np.where(some, both, 1.0), np.where(bars == 0, 0.0, np.inf))

    @cached_property
    def wide(self) -> np.ndarray:
        """(n,) standard errors of which too much is differentiation error."""
        std, bars = self.errors
        wide: np.ndarray = np.isfinite(std) & (bars > WIDE * std)
        return wide

    @cached_property
    def status(self) -> np.ndarray:
        """(n,) flags."""
        undetermined, negative = self.masks
        flags = np.where(undetermined | negative, int(Status.UNRESOLVED), 0)
        if not self.finite:
            flags = np.where(self.free, int(Status.FAILED), flags)
        return np.where(self.free, flags, int(Status.FIXED))

    @cached_property
    def doubts(self) -> list[str]:
        """What a user should hear: constant texts, so that Python's warning filters fold them."""
        told = {
            NOT_FINITE: not self.finite,
            NO_MINIMUM: np.any(self.spectrum.negative),
            UNDETERMINED: np.any(self.spectrum.lost),
            TOO_WIDE: np.any(self.wide),
        }
        return [text for text, holds in told.items() if holds]

    @cached_property
    def undetermined(self) -> tuple[Direction, ...]:
        """Flat directions; of several, each with as few parameters as can be."""
        return tuple(map(self._direction, echelon(self.spectrum.vectors[:, self.spectrum.lost]).T))

    @cached_property
    def negative(self) -> tuple[Direction, ...]:
        """Directions that fall."""
        return tuple(map(self._direction, self.spectrum.vectors[:, self.spectrum.negative].T))

    def _direction(self, vector: np.ndarray) -> Direction:
        found, backend = self.spectrum, self.given.backend
        curvature, error = found.along(vector)
        shares, step = np.zeros(len(self.free)), np.zeros(len(self.free))
        shares[self.free], step[self.free] = vector, vector / found.scale
        largest = np.sort(np.argsort(-np.abs(shares), kind="stable")[:SHOWN]).tolist()
        named = [j for j in largest if abs(shares[j]) >= SHARE * np.max(np.abs(shares))]
        shares, step = (part * np.sign(shares[named[0]]) for part in (shares, step))
        return Direction(
            curvature=curvature,
            error=error,
            parts=tuple((self.given.layout.path(j), float(shares[j])) for j in named),
            vector=assembly.vector(backend, self.given.layout, backend.asarray(step, self.given.dtype)),
        )
