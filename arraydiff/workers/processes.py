"""Processes of our own: a pipe to each, one piece at a time.

So a death is always of one known piece, what a worker holds is known, and all of them can be ended at once.  Nothing here
starts a thread, which would make it unsafe to fork.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.context import BaseContext
from time import perf_counter
from typing import Any
from weakref import WeakSet

from arraydiff.workers.crew import PATIENCE, Crew
from arraydiff.workers.pieces import Pace
from arraydiff.workers.post import Letter, Post
from arraydiff.workers.serving import FEW, Parcel, Recent, Served, opened, serve
from arraydiff.workers.work import Piece, Work

GRACE = 2.0
"""Seconds that a process has to end by itself when it is told to."""

UNGUARDED = 87
"""Exit code of a process that came to our door again while it imported the main script."""


class _Pipes:
    """Our ends of the pipes to all workers: a forked worker must not hold those of others open."""

    def __init__(self) -> None:
        self.starting, self.ours = threading.Lock(), WeakSet[Any]()

    def close(self, end: Any) -> None:
        """Never while a worker is forked, which would find the number of the pipe given to another, its own."""
        with self.starting:
            end.close()
            self.ours.discard(end)

    def forget(self) -> None:
        """In a forked worker, which may have workers of its own."""
        for end in list(self.ours):
            end.close()
        self.starting, self.ours = threading.Lock(), WeakSet[Any]()  # the lock was forked while it was held


_pipes = _Pipes()


class Unreadable(Exception):
    """A worker cannot read f."""


class Hand:
    """One worker process, and our end of its pipe."""

    def __init__(self, context: BaseContext) -> None:
        with _pipes.starting:
            self.end, theirs = context.Pipe()
            _pipes.ours.add(self.end)
            self.process = context.Process(target=attend, args=(theirs,), name="arraydiff worker")  # type: ignore[attr-defined]
            try:
                self.process.start()
            finally:
                theirs.close()
        self.is_ready = False
        self.piece: Piece | None = None
        self.start = 0.0  # when the piece was sent
        self.big = Recent(FEW)  # the same functions as at the other end

    def goes_along(self, letter: Letter) -> bool:
        """Whether a function must be sent; from now on the worker has it."""
        if not letter.is_big:
            return True
        known = self.big.get(letter.token)
        self.big.keep(letter.token, True)
        return known is None

    def end_of(self, patience: float) -> str:
        """How the process ended; it is made to after so many seconds."""
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        _pipes.close(self.end)
        self.process.close()
        return _told(code)


class Processes(Crew):
    """So many processes, started as they are needed, with the platform's way of starting them unless told otherwise."""

    def __init__(self, width: int, context: BaseContext | None = None, pace: Pace | None = None) -> None:
        super().__init__(pace)
        self.width: int = width
        self.deaths = 0
        self._context = context
        self._hands: list[Hand] = []
        self._post = Post()

    def serve(self, work: Work) -> None:
        """Give every task that waits its result."""
        self._post.collect(work.functions)
        try:
            while work.waiting or any(hand.piece for hand in self._hands):
                self._hire(work)
                self._hand_out(work)
                for hand in self._heard():
                    self._listen(hand, work)
        except BaseException:
            for hand in self._hands:
                if hand.piece is not None:
                    work.put_back(hand.piece)
            self.close(hurry=True)  # what they would still answer belongs to nobody
            raise

    def close(self, hurry: bool) -> None:
        """End all processes; in a hurry they are killed."""
        atexit.unregister(self._kill)
        hands, self._hands = self._hands, []
        for hand in hands:
            if hurry or not hand.is_ready:
                hand.process.kill()
            else:
                _pipes.close(hand.end)
        for hand in hands:
            hand.end_of(GRACE)

    def _kill(self) -> None:
        """At the end of the interpreter, which waits for its children."""
        self.close(hurry=True)

    def _hire(self, work: Work) -> None:
        free = sum(hand.piece is None for hand in self._hands)
        for _ in range(min(self.width - len(self._hands), len(work.waiting) - free)):
            _leave_if_imported_anew()
            if not self._hands:
                atexit.register(self._kill)
            with _ctrl_c_waits():
                try:
                    self._hands.append(Hand(self._context or multiprocessing.get_context()))
                except (EOFError, ConnectionError) as error:  # forkserver, when importing the main script ended it
                    raise RuntimeError(_unguarded(self.width)) from error

    def _hand_out(self, work: Work) -> None:
        for hand in self._hands:
            if not work.waiting:
                return
            if hand.is_ready and hand.piece is None:
                hand.piece, hand.start = work.waiting.popleft(), perf_counter()
                with suppress(OSError):  # it is dead: heard of at once
                    hand.end.send(self._post.parcels(work, hand.piece, hand.goes_along))

    def _heard(self) -> list[Hand]:
        """Those that have something to say, or are dead."""
        said = connection.wait([hand.end for hand in self._hands], PATIENCE)
        # The pipe of a dead worker stays open where f has left a process behind that holds it.
        return [hand for hand in self._hands if hand.end in said or not (said or hand.process.is_alive())]

    def _listen(self, hand: Hand, work: Work) -> None:
        try:
            said = hand.end.recv() if hand.end.poll() else None
        except (EOFError, OSError):
            said = None
        if said is None:
            self._bury(hand, work)
        elif isinstance(said, BaseException):  # f wants the program to end
            raise said
        elif isinstance(said, Served):
            self._take(hand, said, work)
        else:
            hand.is_ready = True

    def _take(self, hand: Hand, served: Served, work: Work) -> None:
        if served.unreadable:
            raise Unreadable(served.unreadable)
        assert hand.piece is not None
        assert not served.missing  # `goes_along` knows what the worker has
        piece, hand.piece = hand.piece, None
        self.pace.learn(len(served.answers), served.seconds, perf_counter() - hand.start)
        work.take(piece, [opened(answer) for answer in served.answers], lambda rest: self.pace.pieces(rest, work.width))

    def _bury(self, hand: Hand, work: Work) -> None:
        self._hands.remove(hand)
        self.deaths += 1
        told = hand.end_of(GRACE)
        if not hand.is_ready:
            raise RuntimeError(
                _unguarded(self.width)
                if told == _told(UNGUARDED)
                else f"workers={self.width}: a process {told} before it could begin; put the call under "
                "`if __name__ == '__main__':`, or leave workers out to see what is wrong"
            )
        if hand.piece is not None:
            work.lose(hand.piece, f"the worker process that evaluated f here {told}")


def attend(end: Any) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends its workers
    _unblock_ctrl_c()
    _pipes.forget()
    with suppress(EOFError, OSError):  # the parent has no more to do, or is gone
        end.send("ready")
        while True:
            end.send(_served(end.recv()))


def _served(parcels: Sequence[Parcel]) -> Served | BaseException:
    try:
        return serve(parcels)
    except BaseException as error:  # noqa: BLE001 - SystemExit ends the program as it would without workers
        return error.with_traceback(None)


def _leave_if_imported_anew() -> None:
    """A process that is being started imports the main script; it ends without a word, and its parent tells why."""
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise SystemExit(UNGUARDED)


def _unguarded(width: int) -> str:
    return (
        f"workers={width} starts processes that import the main script anew: "
        "put the call under `if __name__ == '__main__':`"
    )


def _told(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"was killed ({name})"
    return f"ended itself (exit code {code})"


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Until the process that is being started is known, and it ignores what it inherits blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unblock_ctrl_c() -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
