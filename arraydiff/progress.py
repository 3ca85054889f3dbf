"""How far a derivative is: points done of those expected, and the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

EVERY = 0.2
"""Seconds between two lines: a terminal is slower than many an f."""

Told = Callable[[int, int], None]


class Shown(Protocol):
    """Something that shows a number of points, and can be put away."""

    def __call__(self, done: int, expected: int) -> None:
        """So many of so many."""

    def close(self) -> None:
        """There will be no more."""


class Progress:
    """Counts points, and tells."""

    def __init__(self, wanted: bool | Told) -> None:
        self.shown = _shown() if wanted is True else None
        self.tell: Told = self.shown or wanted  # type: ignore[assignment]
        self.done = self.expected = 0

    def tick(self, points: int = 1) -> None:
        """So many points more are done."""
        self.done += points
        self.expect(0)
        self.tell(self.done, self.expected)

    def expect(self, more: int) -> None:
        """So many are still to come, at least."""
        self.expected = max(self.expected, self.done + more)

    def revise(self, more: int) -> None:
        """So many are still to come, as far as is known now."""
        self.expected = self.done + more

    def close(self, done: bool = True) -> None:
        """There will be no more; `done`: all that were wanted are there."""
        if done and self.done:
            self.expected = self.done
            self.tell(self.done, self.expected)
        if self.shown is not None:
            self.shown.close()


def _shown() -> Shown:
    if sys.stderr is None:  # a program without a console
        return Silent()
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return Line()
    return Bar(tqdm)


class Silent:
    """Nobody looks."""

    def __call__(self, done: int, expected: int) -> None:
        """So many of so many."""

    def close(self) -> None:
        """There will be no more."""


class Bar:
    """A bar of tqdm's."""

    def __init__(self, make: Any) -> None:
        self.bar = make(unit="point", leave=False)

    def __call__(self, done: int, expected: int) -> None:
        if self.bar.total != expected:
            self.bar.total = expected
            self.bar.refresh()
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()


class Line:
    """One line on the terminal that is written over, or now and then one more where there is no terminal."""

    def __init__(self) -> None:
        self.began, self.last = time.monotonic(), 0.0
        self.plain = not sys.stderr.isatty()

    def __call__(self, done: int, expected: int) -> None:
        now = time.monotonic()
        if now - self.last < (50 * EVERY if self.plain else EVERY) and done < expected:
            return
        self.last = now
        left = (now - self.began) * (expected - done) / done
        text = f"arraydiff: {done} of {expected} points, {left:.0f} s left"
        self._write(f"{text}\n" if self.plain else f"\r{text:<79}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if not self.plain:
            self._write(f"\r{'':<79}\r")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
