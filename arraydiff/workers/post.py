"""Functions made ready to be sent to other processes: each is pickled once, and big ones travel once a worker."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from typing import NamedTuple
from uuid import uuid4

from arraydiff.workers.serving import FEW, SMALL, Parcel
from arraydiff.workers.work import Function, Piece, Work


def pickled(thing: object) -> bytes:
    """In one copy of its arrays."""
    return pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)


class Unsendable(Exception):
    """A function that cannot be pickled."""


class Letter(NamedTuple):
    """A function, pickled."""

    token: str
    blob: bytes

    @property
    def is_big(self) -> bool:
        """Whether it is worth keeping it from going with every piece."""
        return len(self.blob) > SMALL


class Post:
    """The functions of a round, pickled; those that were there in the round before are not pickled again."""

    def __init__(self, dumps: Callable[[object], bytes] = pickled) -> None:
        self._dumps = dumps
        self._letters: dict[int, tuple[Function, Letter]] = {}  # holding the function keeps its id its own

    def collect(self, functions: Iterable[Function]) -> None:
        """The functions of the next round."""
        before, self._letters = self._letters, {}
        for function in functions:
            key = id(function)
            if key not in self._letters:
                self._letters[key] = before[key] if key in before else (function, self._written(function))

    def _written(self, function: Function) -> Letter:
        try:
            return Letter(uuid4().hex, self._dumps(function))
        except Exception as error:
            raise Unsendable(f"{type(error).__name__}: {error}") from error

    @property
    def overflows(self) -> bool:
        """Whether there are more big functions than a worker keeps."""
        return sum(letter.is_big for _, letter in self._letters.values()) > FEW

    def parcels(self, work: Work, piece: Piece, along: Callable[[Letter], bool]) -> list[Parcel]:
        """A piece as it is sent; `along` says which functions go with it."""
        parcels = []
        for function, points in work.parts(piece):
            letter = self._letters[id(function)][1]
            parcels.append(Parcel(letter.token, letter.blob if along(letter) else None, pickled(points)))
        return parcels
