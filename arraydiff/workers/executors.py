"""Workers behind `submit`: what is common to every engine that answers with futures, and concurrent.futures' executors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cached_property
from queue import Empty, SimpleQueue
from threading import Event
from time import perf_counter
from typing import Any, NamedTuple, NoReturn

from arraydiff.workers.crew import PATIENCE, Crew
from arraydiff.workers.pieces import Pace
from arraydiff.workers.post import Letter, Post, Unsendable
from arraydiff.workers.processes import Processes
from arraydiff.workers.serving import opened, serve, serve_here
from arraydiff.workers.work import Piece, Work

Future = Any  # of concurrent.futures, or with the same methods


class Sent(NamedTuple):
    """A piece on its way."""

    piece: Piece
    start: float
    at_once: bool  # to a worker that had nothing to do


class Submitting(Crew):
    """Pieces are submitted, as many as there are workers at a time, and answered in any order."""

    ahead = 1
    """Pieces a worker that are on their way: more hide the time of a slow way, and fewer are lost with a worker."""

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
        answers: SimpleQueue[Future] = SimpleQueue()
        flying: dict[Future, Sent] = {}
        try:
            while flying or work.waiting:
                while self._may_send(work, len(flying)):
                    piece = work.waiting.popleft()
                    start = perf_counter()
                    future = self._submitted(work, piece)
                    if future is None:
                        work.put_back(piece)
                        break
                    flying[future] = Sent(piece, start, len(flying) < work.width)
                    future.add_done_callback(answers.put)
                if not flying:
                    break
                future = _next(answers)
                self._take(work, flying.pop(future), future)
        finally:
            for future in flying:
                future.cancel()

    def _may_send(self, work: Work, flying: int) -> bool:
        return len(work.waiting) > 0 and flying < self.ahead * work.width

    def _submitted(self, work: Work, piece: Piece) -> Future | None:
        """None where there is nobody to submit to any more."""
        raise NotImplementedError

    def _take(self, work: Work, sent: Sent, future: Future) -> None:
        try:
            served = future.result()
        except Exception as error:  # noqa: BLE001 - of the workers: f's are values
            self._failed(work, sent.piece, error)
            return
        if served.missing:
            self._missed(work, sent.piece)
            return
        if served.unreadable:
            self._refused(served.unreadable)
        trip = perf_counter() - sent.start
        self.pace.learn(len(served.answers), served.seconds, trip if sent.at_once else None)
        work.take(
            sent.piece,
            [self._opened(answer) for answer in served.answers],
            lambda rest: self.pace.pieces(rest, work.width),
        )

    def _opened(self, answer: Any) -> Any:
        return opened(answer)

    def _failed(self, work: Work, piece: Piece, error: Exception) -> None:
        """What became of a piece is not its function's doing."""
        raise _unusable(error) from error

    def _missed(self, work: Work, piece: Piece) -> None:
        raise NotImplementedError

    def _refused(self, why: str) -> NoReturn:
        raise RuntimeError(
            f"f cannot be read where workers evaluate it ({why}): define it in a module that they can import, "
            "or give workers=ThreadPoolExecutor(...)"
        )


def _next(answers: SimpleQueue[Future]) -> Future:
    while True:
        try:
            return answers.get(timeout=PATIENCE)
        except Empty:
            continue


def _unusable(error: Exception) -> RuntimeError:
    return RuntimeError(
        f"workers could not evaluate f ({type(error).__name__}: {error}); "
        "give an executor that is open, and whose workers can import arraydiff"
    )


class Threads(Submitting):
    """Threads of this process: nothing is pickled.  `executor` is the user's, or makes one of our own."""

    def __init__(
        self, executor: Executor | Callable[[], Executor], width: int | None, pace: Pace | None = None
    ) -> None:
        super().__init__(pace)
        self.width, self._executor = width, executor
        self._stop = Event()

    @cached_property
    def executor(self) -> Executor:
        """Started when first asked for."""
        return self._executor if isinstance(self._executor, Executor) else self._executor()

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
        stop = self._stop = Event()
        try:
            super().serve(work)
        except BaseException:
            stop.set()  # a thread cannot be ended: it leaves its piece after the point it is at
            raise

    def close(self, hurry: bool) -> None:
        """End threads of our own; what runs in them cannot be stopped, only left alone."""
        if not isinstance(self._executor, Executor) and "executor" in self.__dict__:
            self.executor.shutdown(wait=not hurry, cancel_futures=True)

    def _submitted(self, work: Work, piece: Piece) -> Future:
        try:
            return self.executor.submit(serve_here, list(work.parts(piece)), self._stop)
        except RuntimeError as error:  # it was shut down
            raise _unusable(error) from error

    def _opened(self, answer: Any) -> Any:
        return answer


class Executors(Submitting):
    """An executor of the user's that may be in other processes; of one whose processes die, ours do the rest."""

    def __init__(self, executor: Executor) -> None:
        super().__init__()
        self.executor = executor
        self._post, self._sent = Post(), dict[str, int]()  # how often a function went along
        self._complete = set[Piece]()  # pieces that go again with all their functions
        self._broken = False
        self._spare: Processes | None = None
        self._direct: Threads | None = None

    @cached_property
    def width(self) -> int | None:  # type: ignore[override]
        """Evaluations at a time; asked late, because MPI starts its workers to tell."""
        return width_of(self.executor)

    def close(self, hurry: bool) -> None:
        """End what took the place of the user's processes."""
        if self._spare is not None:
            self._spare.close(hurry)

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
        try:
            self._post.collect(work.functions)
        except Unsendable as error:
            self._serve_directly(work, error)
            return
        self._complete.clear()
        if not self._broken:
            super().serve(work)
        if work.waiting:
            if self._spare is None:
                context = getattr(self.executor, "_mp_context", None)
                self._spare = Processes(self.width or 1, context, self.pace)
            self._spare.serve(work)

    def _serve_directly(self, work: Work, error: Unsendable) -> None:
        """An executor that is not known to pickle may take f as it is."""
        if pickles(self.executor):
            raise TypeError(
                f"workers={type(self.executor).__name__} needs an f that can be pickled ({error}); define f and what it holds "
                "at the level of a module, or give workers=ThreadPoolExecutor(...)"
            ) from error
        if self._direct is None:
            self._direct = Threads(self.executor, self.width, self.pace)
        self._direct.serve(work)

    def _may_send(self, work: Work, flying: int) -> bool:
        return not self._broken and super()._may_send(work, flying)

    def _submitted(self, work: Work, piece: Piece) -> Future | None:
        complete = piece in self._complete or self._post.overflows
        parcels = self._post.parcels(work, piece, lambda letter: complete or self._goes_along(letter))
        try:
            return self.executor.submit(serve, parcels)
        except BrokenExecutor:
            self._broken = True
            return None
        except RuntimeError as error:  # it was shut down
            raise _unusable(error) from error

    def _goes_along(self, letter: Letter) -> bool:
        """The small with every piece, the big with one for every worker."""
        if not letter.is_big:
            return True
        sent = self._sent[letter.token] = self._sent.get(letter.token, 0) + 1
        return self.width is None or sent <= self.width

    def _failed(self, work: Work, piece: Piece, error: Exception) -> None:
        if not isinstance(error, BrokenExecutor):
            super()._failed(work, piece, error)
        self._broken = True
        work.lose(piece, "the worker process that evaluated f here died")

    def _missed(self, work: Work, piece: Piece) -> None:
        self._complete.add(piece)
        work.put_back(piece)


def width_of(executor: object) -> int | None:
    """How many evaluations an executor, or a pool of multiprocessing, does at a time."""
    for name in ("num_workers", "_max_workers", "_processes"):
        width = getattr(executor, name, None)
        if isinstance(width, int) and width >= 1:
            return width
    return None


def in_this_process(executor: Executor) -> bool:
    """Whether f runs in threads of this interpreter."""
    return isinstance(executor, ThreadPoolExecutor) and not _has_interpreters(executor)


def pickles(executor: Executor) -> bool:
    """Whether f is certainly pickled on its way."""
    of_mpi = any(base.__module__.startswith("mpi4py") for base in type(executor).__mro__)
    return isinstance(executor, ProcessPoolExecutor) or of_mpi or _has_interpreters(executor)


def _has_interpreters(executor: Executor) -> bool:
    return any(base.__name__ == "InterpreterPoolExecutor" for base in type(executor).__mro__)
