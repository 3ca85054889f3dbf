"""What serves all evaluators of one public call: workers, and whoever is told of progress."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from arraydiff.config import DifferentiationConfig
from arraydiff.progress import Progress

if TYPE_CHECKING:
    from arraydiff.workers import Crew


class Service:
    """Entered around all rounds, by several evaluators or around them: the first to enter is the last to leave."""

    def __init__(self, config: DifferentiationConfig) -> None:
        self.crew = _crew(config)
        self.progress = Progress(config.progress) if config.progress is not False else None
        self.depth = 0

    def __enter__(self) -> Self:
        if self.depth == 0 and self.crew is not None:
            self.crew.__enter__()
        self.depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.depth -= 1
        if self.depth == 0:
            try:
                if self.progress is not None:
                    self.progress.close(done=error is None)
            finally:
                if self.crew is not None:
                    self.crew.__exit__(kind, error, traceback)


def _crew(config: DifferentiationConfig) -> Crew | None:
    if config.workers is None:
        return None
    from arraydiff.workers import crew_of  # which loads what processes need

    return crew_of(config.workers)
