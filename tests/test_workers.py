"""Workers: what every engine promises, then what only some can break.  Nothing here is differentiated."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arraydiff.errors import WorkerDied
from arraydiff.workers import Crew, crew_of
from arraydiff.workers.pieces import Pace, pieces_wanted, spans
from arraydiff.workers.serving import FEW, SMALL, Parcel, opened, sealed, serve
from tests import worker_functions as functions

# Other tests, and other engines, have threads when processes are forked here; the functions use none of their locks.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
]

ROOT = Path(__file__).parent.parent
POINTS = [np.asarray([float(j), -0.1 * j]) for j in range(23)]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="kills by signals")


@pytest.fixture(autouse=True)
def no_test_hangs() -> Iterator[None]:
    """An exception in the main thread after three minutes; scripts have timeouts of their own."""

    def stop(*_: Any) -> None:
        raise TimeoutError("the test hangs")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 180.0)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Any]]:
    spawn, fork = multiprocessing.get_context("spawn"), multiprocessing.get_context()
    with (
        ThreadPoolExecutor(2) as threads,
        ProcessPoolExecutor(2, fork) as processes,
        ProcessPoolExecutor(1, spawn) as spawned,
        ThreadPoolExecutor(2) as mapping,
    ):
        pool = fork.Pool(2)
        yield {
            "1": 1,
            "2": 2,
            "threads": threads,
            "processes": processes,
            "spawned": spawned,
            "map": mapping.map,
            "builtin map": map,
            "Pool.map": pool.map,
            "executor without width": Immediate(),
        }
        pool.terminate()
        pool.join()


class Immediate(Executor):
    """An executor that says nothing of itself, and takes what it gets as it is."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


ENGINES = ["1", "2", "threads", "processes", "spawned", "map", "builtin map", "Pool.map", "executor without width"]
every_engine = pytest.mark.parametrize("engine", ENGINES)


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(np.array_equal(one, other))


@every_engine
def test_every_engine_gives_the_bits_of_a_serial_run_in_order(engine: str, engines: dict[str, Any]) -> None:
    asked = [
        (functions.waves, POINTS),
        (functions.first, POINTS[:3]),
        (functions.first, []),
        (functions.waves, POINTS[:1]),
    ]
    with crew_of(engines[engine]) as crew:
        for _ in range(2):  # knowing nothing, then knowing what points cost
            got = crew.run(asked)
            wanted = [[function(point) for point in points] for function, points in asked]
            assert [len(results) for results in got] == [len(results) for results in wanted]
            assert all(
                same(a, b) for one, other in zip(got, wanted, strict=True) for a, b in zip(one, other, strict=True)
            )


@every_engine
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_points_arrive_contiguous_writable_and_unchanged(engine: str, dtype: str, engines: dict[str, Any]) -> None:
    points = [np.asarray([0.1 * j, -0.0, 5e-324], dtype=dtype) for j in range(5)]
    wanted = [(point.tobytes(), point.dtype.str, (3,), True, True) for point in points]
    with crew_of(engines[engine]) as crew:
        assert crew.run([(functions.mirrored, points)]) == [wanted]


@every_engine
def test_done_is_called_once_a_result_in_the_calling_thread(engine: str, engines: dict[str, Any]) -> None:
    seen: list[tuple[int, int, Any, int]] = []
    with crew_of(engines[engine]) as crew:
        got = crew.run(
            [(functions.first, POINTS), (functions.first, POINTS[:2])],
            lambda i, j, result: seen.append((i, j, result, threading.get_ident())),
        )
    assert sorted((i, j) for i, j, *_ in seen) == [(0, j) for j in range(len(POINTS))] + [(1, 0), (1, 1)]
    assert all(got[i][j] == result and thread == threading.get_ident() for i, j, result, thread in seen)


@pytest.mark.parametrize("engine", ["2", "threads", "processes"])
def test_done_is_called_as_soon_as_a_result_is_there(engine: str, engines: dict[str, Any], tmp_path: Path) -> None:
    """The points other than 0 wait for a file that `done` makes."""
    file = tmp_path / "done"
    with crew_of(engines[engine]) as crew:
        got = crew.run([(functions.Waiting(file), POINTS[:4])], lambda i, j, result: file.touch())
    assert got == [[0.0, 1.0, 1.0, 1.0]]


@every_engine
def test_nothing_asked_starts_nothing(engine: str, engines: dict[str, Any]) -> None:
    before = multiprocessing.active_children()
    with crew_of(engines[engine]) as crew:
        assert crew.run([]) == []
        assert crew.run([(functions.first, [])]) == [[]]
        assert multiprocessing.active_children() == before


@pytest.mark.parametrize("engine", ["2", "threads", "processes"])
def test_points_are_taken_from_their_sequence_when_they_are_sent(engine: str, engines: dict[str, Any]) -> None:
    class Made(Sequence[Any]):
        taken = most = 0

        def __len__(self) -> int:
            return 40

        def __getitem__(self, j: Any) -> Any:
            Made.taken += 1
            return np.asarray([float(j)])

    def done(i: int, j: int, result: Any) -> None:
        nonlocal given
        given += 1
        Made.most = max(Made.most, Made.taken - given)

    given = 0
    with crew_of(engines[engine]) as crew:
        assert crew.run([(functions.first, Made())], done) == [[float(j) for j in range(40)]]
    assert Made.taken <= 41  # one is looked at first
    assert Made.most <= 2 * 5  # two workers, eight pieces


@pytest.mark.parametrize(
    "workers", [True, 0, -2, 2.5, "4", None, ThreadPoolExecutor, [1]], ids=lambda workers: str(workers)[:20]
)
def test_what_cannot_work_is_refused_by_name(workers: Any) -> None:
    with pytest.raises(ValueError, match=r"^workers wants a whole number >= 1, an Executor .* got"):
        crew_of(workers)


def test_width_is_known_before_anything_starts() -> None:
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2) as processes:
        assert [crew_of(w).width for w in (np.int64(4), threads, processes, threads.map)] == [4, 3, 2, 3]
    assert crew_of(map).width is None


# ---------------------------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize(
    ("points", "width", "cost", "overhead", "pieces"),
    [
        (3, 4, None, None, 3),  # no more points than workers: one each
        (1000, 4, None, None, 32),
        (10, 4, None, None, 10),
        (60, 2, 20e-3, 0.5e-3, 60),  # worth sending alone
        (1000, 2, 1e-3, 1e-3, 100),  # ten points each: a tenth of the work
        (1000, 4, 1e-6, 1e-3, 4),  # never fewer than workers
        (3, 4, 1e-6, 1e-3, 3),
        (5, 4, 1e-6, 1e-3, 4),
        (7, 2, 0.0, 0.0, 7),
    ],
)
def test_pieces_are_worth_sending(points: int, width: int, cost: Any, overhead: Any, pieces: int) -> None:
    assert pieces_wanted(points, width, cost, overhead) == pieces


@pytest.mark.parametrize(("points", "pieces"), [(10, 4), (7, 7), (1, 1), (100, 3)])
def test_spans_hold_every_point_once_and_are_even(points: int, pieces: int) -> None:
    cut = spans(points, pieces)
    assert [k for span in cut for k in span] == list(range(points))
    assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_pace_takes_the_cost_of_the_last_round_and_the_least_overhead() -> None:
    pace = Pace()
    assert not pace.is_cheaper_here(1)
    pace.learn(10, 1.0, 3.0)
    pace.learn(10, 3.0, 3.5)
    assert (pace.cost, pace.overhead) == (0.2, 0.5)
    pace.begin()
    pace.learn(1, 0.1)
    assert (pace.cost, pace.overhead) == (0.1, 0.5)
    assert [pace.is_cheaper_here(points) for points in (5, 6)] == [True, False]


def test_a_round_known_to_be_cheap_stays_in_the_calling_process() -> None:
    with crew_of(2) as crew:
        pids = [set(crew.run([(functions.process_id, POINTS)])[0]) for _ in range(8)]
        assert os.getpid() not in pids[0]
        crew.pace.overhead = 1.0  # whatever this machine does beside
        assert set(crew.run([(functions.process_id, POINTS)])[0]) == {os.getpid()}


def test_rounds_that_cost_something_are_always_sent() -> None:
    with crew_of(2) as crew:
        for _ in range(3):
            pids = set(crew.run([(functions.slow_process_id, POINTS[:6])])[0])
            assert os.getpid() not in pids


# ----------------------------------------------------------------------------------------------- what is sent


def test_a_function_that_cannot_be_pickled_is_evaluated_in_threads() -> None:
    threads = set()
    with crew_of(2) as crew:
        got = crew.run([(lambda x: threads.add(threading.get_ident()) or os.getpid(), POINTS)])
    assert set(got[0]) == {os.getpid()}
    assert threading.get_ident() not in threads
    assert not [thread for thread in threading.enumerate() if thread.ident in threads]


def test_a_process_pool_refuses_a_function_that_cannot_be_pickled_and_stays_usable(engines: dict[str, Any]) -> None:
    with crew_of(engines["processes"]) as crew:
        with pytest.raises(
            TypeError, match=r"workers=ProcessPoolExecutor needs an f that can be pickled.*ThreadPoolExecutor"
        ):
            crew.run([(lambda x: x, POINTS)])
        assert crew.run([(functions.first, POINTS[:2])]) == [[0.0, 1.0]]


def test_an_executor_that_may_not_pickle_gets_the_function_as_it_is() -> None:
    with crew_of(Immediate()) as crew:
        assert crew.run([(lambda x: x[0], POINTS[:2])]) == [[0.0, 1.0]]


def test_a_big_function_is_read_once_a_worker_and_sent_to_own_processes_once(tmp_path: Path) -> None:
    heavy = functions.Heavy(tmp_path)
    with crew_of(2) as crew:
        for _ in range(2):
            assert crew.run([(heavy, POINTS)])[0] == [199_999.0 + x[0] for x in POINTS]
    assert sorted(set(heavy.read_by())) == sorted(heavy.read_by())
    assert len(heavy.read_by()) <= 2


def test_a_big_function_goes_to_a_pool_with_the_first_pieces_only(tmp_path: Path) -> None:
    class Weighing(ProcessPoolExecutor):
        sent: list[bool] = []  # noqa: RUF012

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            Weighing.sent += [parcel.blob is not None for parcel in args[0]]
            return super().submit(fn, *args, **kwargs)

    heavy = functions.Heavy(tmp_path)
    with Weighing(2) as pool, crew_of(pool) as crew:
        for _ in range(3):
            assert crew.run([(heavy, POINTS)])[0] == [199_999.0 + x[0] for x in POINTS]
    assert len(Weighing.sent) >= 8 + 2 + 2
    assert sum(Weighing.sent) <= 4  # two, and one more for a worker that had none of them
    assert len(heavy.read_by()) <= 2


@pytest.mark.parametrize("engine", ["2", "processes"])
def test_more_big_functions_than_a_worker_keeps_are_right(engine: str, engines: dict[str, Any], tmp_path: Path) -> None:
    many = [functions.Heavy(tmp_path, 5_000 + i) for i in range(FEW + 3)]
    with crew_of(engines[engine]) as crew:
        for _ in range(2):
            got = crew.run([(heavy, POINTS[:4]) for heavy in many])
            assert got == [[4_999.0 + i + x[0] for x in POINTS[:4]] for i in range(len(many))]


def test_a_worker_says_what_it_has_not_and_keeps_few() -> None:
    import pickle

    points = pickle.dumps([np.ones(2)])
    blob = pickle.dumps(functools.partial(functions.first, np.ones(SMALL)))
    blob_of_first = pickle.dumps(functions.first)
    assert serve([Parcel("unknown", None, points)]).missing
    tokens = [f"big {i}" for i in range(FEW + 1)]
    for token in tokens:
        assert serve([Parcel(token, blob, pickle.dumps([]))]).answers == []
    assert [serve([Parcel(token, None, pickle.dumps([]))]).missing for token in tokens] == [True] + [False] * FEW
    assert [opened(answer) for answer in serve([Parcel("small", blob_of_first, points)]).answers] == [1.0]
    assert "UnpicklingError" in serve([Parcel("broken", b"nonsense", points)]).unreadable


@pytest.mark.parametrize("engine", ["2", "processes", "spawned"])
def test_what_cannot_come_back_is_an_exception_with_its_name(engine: str, engines: dict[str, Any]) -> None:
    with crew_of(engines[engine]) as crew:
        [[value, plain, peculiar, lock, locks]] = crew.run([(functions.raising, POINTS[:5])])
        assert crew.run([(functions.first, POINTS[:2])]) == [[0.0, 1.0]]
    assert value == 0.0
    assert (type(plain), str(plain)) == (ValueError, "negative")
    if isinstance(peculiar, functions.Peculiar):  # Dask, where it is imported, teaches pickle to read such exceptions
        assert str(peculiar) == "wanted this, got that"
    else:
        assert (type(peculiar), str(peculiar)) == (RuntimeError, "f raised Peculiar: wanted this, got that")
    assert all(
        isinstance(error, RuntimeError) and "cannot be sent from a worker" in str(error) for error in (lock, locks)
    )


def test_an_answer_that_cannot_be_read_is_an_exception() -> None:
    assert "cannot be read here" in str(opened(b"nonsense"))
    assert opened(sealed(1.5)) == 1.5


def test_a_function_that_workers_cannot_read_is_told_of_or_evaluated_in_threads(engines: dict[str, Any]) -> None:
    with crew_of(2) as crew:
        assert crew.run([(functions.Unreadable(), POINTS[:3])]) == [[os.getpid()] * 3]
    with crew_of(engines["processes"]) as crew:
        with pytest.raises(
            RuntimeError, match=r"f cannot be read where workers.*ImportError: no such module.*in a module"
        ):
            crew.run([(functions.Unreadable(), POINTS)])
        assert crew.run([(functions.first, POINTS[:2])]) == [[0.0, 1.0]]


def test_a_piece_is_sent_again_with_its_function_to_a_worker_that_has_it_not(tmp_path: Path) -> None:
    class Forgetful(Immediate):
        sent: list[bool] = []  # noqa: RUF012

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            parcels = args[0] if Forgetful.sent else [parcel._replace(blob=None) for parcel in args[0]]
            Forgetful.sent += [parcel.blob is not None for parcel in parcels]
            return super().submit(fn, parcels)

    with crew_of(Forgetful()) as crew:
        assert crew.run([(functions.Heavy(tmp_path), POINTS[:3])]) == [[199_999.0, 200_000.0, 200_001.0]]
    assert Forgetful.sent[:2] == [False, True]
    assert len(Forgetful.sent) == 4


def test_an_executor_that_fails_by_itself_is_told_of() -> None:
    class Failing(Immediate):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            future = super().submit(abs, 1)
            future._result, future._exception = None, OSError("the network is down")
            return future

    with (
        crew_of(Failing()) as crew,
        pytest.raises(RuntimeError, match=r"workers could not.*OSError: the network is down"),
    ):
        crew.run([(functions.first, POINTS)])


# --------------------------------------------------------------------------------------------------------- deaths


def assert_all_but_the_dead_are_right(got: list[Any], dead: tuple[int, ...]) -> None:
    for j, result in enumerate(got):
        if j in dead:
            assert isinstance(result, WorkerDied)
            assert "twice" in str(result)
        else:
            assert result == float(j) ** 2


@POSIX
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("by_signal", [True, False])
def test_a_point_that_kills_its_process_costs_itself_only(workers: int, by_signal: bool, tmp_path: Path) -> None:
    f = functions.Deadly(tmp_path, always=(4, 5), once=(11,), by_signal=by_signal)
    with crew_of(workers) as crew:
        got = crew.run([(f, POINTS)])[0]
        assert crew.run([(functions.first, POINTS)])[0] == [x[0] for x in POINTS]
    assert_all_but_the_dead_are_right(got, (4, 5))
    assert ("SIGKILL" if by_signal else "exit code 3") in str(got[4])
    assert max(f.calls(j) for j in range(len(POINTS))) == 2
    assert os.getpid() not in f.pids()


@POSIX
@pytest.mark.parametrize("width", [1, 3])
def test_what_a_broken_pool_of_the_user_had_is_done_by_ours(width: int, tmp_path: Path) -> None:
    # Of several pieces in a pool that breaks nobody knows whose doing it was: 11 may count as lost before it is called.
    f = functions.Deadly(tmp_path, always=(4, 12), once=(11,) if width == 1 else ())
    with ProcessPoolExecutor(width) as pool, crew_of(pool) as crew:
        assert_all_but_the_dead_are_right(crew.run([(f, POINTS)])[0], (4, 12))
        assert crew.run([(functions.first, POINTS)])[0] == [x[0] for x in POINTS]
    assert max(f.calls(j) for j in range(len(POINTS))) == 2
    assert multiprocessing.active_children() == [] or not f.pids() & {p.pid for p in multiprocessing.active_children()}


def test_a_pool_that_is_broken_already_is_replaced() -> None:
    with ProcessPoolExecutor(1) as pool, crew_of(pool) as crew:
        assert isinstance(pool.submit(os._exit, 3).exception(), RuntimeError)
        assert crew.run([(functions.first, POINTS)])[0] == [x[0] for x in POINTS]


@POSIX
def test_a_death_is_seen_though_a_child_holds_the_pipe_open() -> None:
    with crew_of(2) as crew:
        start = time.monotonic()
        got = crew.run([(functions.leaving_a_child_behind, POINTS[:4])])[0]
        assert time.monotonic() - start < 6.0
    assert isinstance(got[1], WorkerDied)
    assert [got[0], *got[2:]] == [0.0, 2.0, 3.0]


@POSIX
def test_workers_of_a_parent_that_is_killed_end_by_themselves(tmp_path: Path) -> None:
    ended = script(
        tmp_path,
        """
if __name__ == "__main__":
    with crew_of(3) as crew:
        crew.run([(functions.slow_process_id, POINTS[:9])])
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    pids = [int(word) for word in ended.stdout.split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 10.0
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, pids))


def lives(pid: int) -> bool:
    """Zombies do not: whoever inherits them may never ask for them."""
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_asks_the_program_to_end_ends_it(engines: dict[str, Any]) -> None:
    for workers in (2, engines["processes"]):
        with crew_of(workers) as crew, pytest.raises(SystemExit, match="f wants to leave"):
            crew.run([(functions.leaving, POINTS)])


def test_an_executor_that_is_shut_down_is_told_of() -> None:
    for executor in (ThreadPoolExecutor(1), ProcessPoolExecutor(1)):
        executor.shutdown()
        with crew_of(executor) as crew, pytest.raises(RuntimeError, match=r"workers could not.*shutdown.*that is open"):
            crew.run([(functions.first, POINTS)])


def test_an_executor_of_the_user_is_left_open(engines: dict[str, Any]) -> None:
    for name in ("threads", "processes"):
        with crew_of(engines[name]) as crew:
            crew.run([(functions.first, POINTS)])
        assert engines[name].submit(abs, -1).result() == 1


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (lambda function, things: [function(thing) for thing in list(things)[1:]], "gave 22 results for 23 points"),
        (lambda function, things: None, "gave a NoneType.*an iterable of one result a point"),
    ],
)
def test_a_map_that_is_none_is_told_of(mapping: Any, text: str) -> None:
    with crew_of(mapping) as crew, pytest.raises(ValueError, match=f"workers {text}"):
        crew.run([(functions.first, POINTS)])


def test_a_map_gets_the_function_itself_where_there_is_one() -> None:
    given = []

    def mapping(function: Any, things: Any) -> list[Any]:
        given.append(function)
        return [function(thing) for thing in things]

    with crew_of(mapping) as crew:
        crew.run([(functions.first, POINTS)])
        crew.run([(functions.first, POINTS), (functions.waves, POINTS)])
    assert given[0] is functions.first
    assert len(given) == 2  # one call a round


# ------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_an_exception_in_the_parent_leaves_no_process(stop: type[BaseException], tmp_path: Path) -> None:
    def done(i: int, j: int, result: Any) -> None:
        raise stop

    start = time.monotonic()
    before = set(multiprocessing.active_children())
    with pytest.raises(stop), crew_of(2) as crew:
        crew.run([(functions.Sleeping(tmp_path), POINTS[:2])], done)
    assert time.monotonic() - start < 10.0
    assert set(multiprocessing.active_children()) <= before


def test_a_crew_serves_again_after_a_round_that_was_stopped(tmp_path: Path) -> None:
    def done(i: int, j: int, result: Any) -> None:
        raise ValueError

    with crew_of(2) as crew:
        with pytest.raises(ValueError):  # noqa: PT011
            crew.run([(functions.Sleeping(tmp_path), POINTS[:2])], done)
        assert crew.run([(functions.first, POINTS)])[0] == [x[0] for x in POINTS]


def test_several_threads_at_once(engines: dict[str, Any]) -> None:
    wrong: list[Any] = []

    def serve_rounds(workers: Any) -> None:
        with crew_of(workers) as crew:
            for k in range(3):
                points = [x + k for x in POINTS]
                if crew.run([(functions.first, points)])[0] != [x[0] for x in points]:
                    wrong.append(workers)

    served = [engines["threads"], engines["processes"], engines["processes"], 2, 2]
    threads = [threading.Thread(target=serve_rounds, args=(workers,)) for workers in served]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_process_that_may_have_no_children_takes_threads() -> None:
    pool = multiprocessing.Pool(1)
    try:
        pids, pid = pool.apply(pids_in_a_crew)
    finally:
        pool.terminate()
        pool.join()
    assert pids == {pid}


def test_a_worker_may_have_workers() -> None:
    with crew_of(2) as crew:
        got = crew.run([(functions.nested, POINTS[:2])])[0]
    parents, children = {pid for pid, _ in got}, {child for _, pids in got for child in pids}
    assert parents.isdisjoint(children)
    assert os.getpid() not in parents | children


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_libraries_that_a_fork_would_hang_are_served_by_threads(library: str) -> None:
    if library == "torch" and multiprocessing.get_start_method() != "fork":
        pytest.skip("processes are not forked here")
    xp = pytest.importorskip(library)
    with crew_of(2) as crew:
        assert set(crew.run([(functions.process_id, [xp.ones(2)] * 4)])[0]) == {os.getpid()}


def pids_in_a_crew() -> tuple[set[int], int]:
    with crew_of(2) as crew:
        return set(crew.run([(functions.process_id, POINTS)])[0]), os.getpid()


# -------------------------------------------------------------------------------------------- scripts of their own


def script(folder: Path, text: str, *before: str, timeout: float = 150.0) -> subprocess.CompletedProcess[str]:
    path = folder / "script.py"
    path.write_text(HEADER + text, encoding="utf-8")
    command = [*before, sys.executable, *([] if not before else ["-m", "mpi4py.futures"]), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


HEADER = """
import multiprocessing, os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from arraydiff.workers import crew_of
from tests import worker_functions as functions

POINTS = [np.asarray([float(j), -0.1 * j]) for j in range(23)]
SQUARES = [x[0] ** 2 for x in POINTS]

def square(x):
    return float(x[0]) ** 2

def anew():
    return getattr(multiprocessing.current_process(), "_inheriting", False)
"""


def assert_says(ended: subprocess.CompletedProcess[str], *lines: str) -> None:
    assert (ended.returncode, ended.stdout.splitlines(), ended.stderr) == (0, list(lines), "")


def methods() -> list[str]:
    return [method for method in multiprocessing.get_all_start_methods() if method != "fork"]


@pytest.mark.parametrize("method", methods())
def test_processes_start_in_every_way(method: str, tmp_path: Path) -> None:
    ended = script(
        tmp_path,
        f"""
if __name__ == "__main__":
    multiprocessing.set_start_method({method!r})
    with crew_of(2) as crew:
        pids = crew.run([(functions.slow_process_id, POINTS[:4])])[0]
        print(crew.run([(square, POINTS)]) == [SQUARES], os.getpid() in pids, len(multiprocessing.active_children()) <= 2)
    print(multiprocessing.active_children())
""",
    )
    assert_says(ended, "True False True", "[]")


@pytest.mark.parametrize("method", methods())
def test_a_missing_guard_is_told_in_one_line(method: str, tmp_path: Path) -> None:
    ended = script(
        tmp_path,
        f"""
if not (anew() or multiprocessing.parent_process()):
    multiprocessing.set_start_method({method!r})
with crew_of(2) as crew:
    try:
        crew.run([(square, POINTS)])
    except RuntimeError as error:
        print(error, file=sys.stderr)
""",
    )
    [line] = ended.stderr.splitlines()
    assert line.startswith("workers=2")
    assert "put the call under `if __name__ == '__main__':`" in line


def test_a_function_that_only_the_parent_has_is_evaluated_in_threads() -> None:
    """As in a notebook on a platform that does not fork."""
    text = f"""{HEADER}
multiprocessing.set_start_method("spawn")
with crew_of(2) as crew:
    print(crew.run([(square, POINTS)]) == [SQUARES], multiprocessing.active_children())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", text]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert_says(ended, "True []")


INTERRUPTED = """
if __name__ == "__main__":
    folder = Path(sys.argv[0]).parent / "calls"
    folder.mkdir()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored by what it starts with &
    sleeping = functions.Sleeping(folder, {seconds})
    f = sleeping if {workers!r} == "processes" else lambda x: sleeping(x)
    with crew_of(2) as crew:
        try:
            crew.run([(f, POINTS[1:])])
        finally:
            print("left", flush=True)
"""


@POSIX
@pytest.mark.parametrize(("workers", "seconds"), [("processes", 60.0), ("threads", 2.5)])
def test_ctrl_c_stops_at_once_and_cleanly(workers: str, seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(HEADER + INTERRUPTED.format(workers=workers, seconds=seconds), encoding="utf-8")
    environment, pipe = {**os.environ, "PYTHONPATH": str(ROOT)}, subprocess.PIPE
    command = [sys.executable, str(path)]
    with subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as running:
        try:
            noted = functions.Noted(tmp_path / "calls")
            deadline = time.monotonic() + 30.0
            while not (noted.folder.exists() and len(list(noted.folder.iterdir())) >= 2):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            start = time.monotonic()
            os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
            assert running.stdout is not None
            assert running.stdout.readline() == "left\n"
            assert workers == "threads" or time.monotonic() - start < seconds / 2  # on any machine: f is not waited for
            _, told = running.communicate(timeout=20.0)
        finally:
            running.kill()
    assert told.count("Traceback") == 1
    assert told.splitlines()[-1] == "KeyboardInterrupt"
    assert not any(map(lives, noted.pids()))


DASK = """
if __name__ == "__main__":
    import dask
    from distributed import Client, LocalCluster
    from arraydiff.errors import WorkerDied

    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    folder = Path(sys.argv[0]).parent
    for name in ("heavy", "killed", "deadly"):
        (folder / name).mkdir()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        crew_of(client) as crew,
    ):
        print(crew.width, crew.run([(square, POINTS), (functions.first, POINTS[:1])]) == [SQUARES, [0.0]])
        print(crew.run([(lambda x: x[0], POINTS[:2])]))
        lock = threading.Lock()
        try:
            crew.run([(lambda x: lock, POINTS[:2])])
        except TypeError as error:
            print(str(error)[:44])
        heavy = functions.Heavy(folder / "heavy")
        print([crew.run([(heavy, POINTS)])[0][-1] for _ in range(2)], len(heavy.read_by()))
        print(crew.run([(functions.mirrored, POINTS[:2])])[0][1][1:])

        killed = []
        def kill(i, j, result):
            if not killed:
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)
        slow = functions.Sleeping(folder / "killed", 0.05)
        print(crew.run([(slow, POINTS)], kill) == [[x[0] for x in POINTS]], len(killed))

        deadly = functions.Deadly(folder / "deadly", always=(1,))
        got = crew.run([(deadly, POINTS[:6])])[0]
        print(isinstance(got[1], WorkerDied), got[:1] + got[2:] == SQUARES[:1] + SQUARES[2:6])
        try:
            crew_of(client.map)
        except ValueError as error:
            print(error)
    try:
        crew.run([(square, POINTS)])
    except RuntimeError as error:
        print("workers could not" in str(error))
"""


@POSIX
@pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed")
def test_dask_evaluates_and_survives_the_death_of_a_worker(tmp_path: Path) -> None:
    ended = script(tmp_path, DASK)  # what Dask logs of the deaths goes to stderr
    assert (ended.returncode, ended.stdout.splitlines()) == (
        0,
        [
            "2 True",
            "[[np.float64(0.0), np.float64(1.0)]]",
            "workers=Client needs an f that can be pickle",
            "[200021.0, 200021.0] 2",
            "('<f8', (2,), True, True)",
            "True 1",
            "True True",
            "workers got the map of a Client, which gives futures; give the Client itself",
            "True",
        ],
    ), ended.stderr


MPI = """
if __name__ == "__main__":
    from mpi4py.futures import MPIPoolExecutor

    folder = Path(sys.argv[0]).parent / "heavy"
    folder.mkdir()
    with MPIPoolExecutor() as pool, crew_of(pool) as crew:
        print(crew.width, crew.run([(square, POINTS)]) == [SQUARES])
        pids = crew.run([(functions.process_id, POINTS)])[0]
        print(os.getpid() in pids)
        heavy = functions.Heavy(folder)
        print([crew.run([(heavy, POINTS)])[0][-1] for _ in range(2)], len(heavy.read_by()))
        try:
            crew.run([(lambda x: x, POINTS)])
        except TypeError as error:
            print(str(error)[:48])
        print(crew.run([(functions.raising, POINTS[:3])])[0])
"""


def mpiexec() -> str | None:
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() and find_spec("mpi4py") is not None else None


@pytest.mark.skipif(mpiexec() is None, reason="mpi4py, or an mpiexec beside this Python, is not installed")
def test_mpi_evaluates_in_its_workers(tmp_path: Path) -> None:
    assert_says(
        script(tmp_path, MPI, str(mpiexec()), "-n", "2"),
        "1 True",
        "False",
        "[200021.0, 200021.0] 1",
        "workers=MPIPoolExecutor needs an f that can be p",
        "[np.float64(0.0), ValueError('negative'), RuntimeError('f raised Peculiar: wanted this, got that')]",
    )


def test_crew_is_the_type_of_all_crews() -> None:
    assert all(isinstance(crew_of(workers), Crew) for workers in (1, map))


@pytest.mark.parametrize("engine", ["own", "threads", "pool"])
def test_long_pieces_come_back_early_so_that_little_is_lost_and_all_workers_are_busy(engine: str) -> None:
    """Nothing is known of the cost at first: 200 points are cut into pieces of many."""
    seen: list[float] = []
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        workers: Any = 2
        if engine == "threads":
            workers = stack.enter_context(ThreadPoolExecutor(2))
        elif engine == "pool":
            workers = stack.enter_context(ProcessPoolExecutor(2))
        with crew_of(workers) as crew:
            got = crew.run(
                [(functions.naps, [0.005] * 200)], lambda i, j, result: seen.append(time.perf_counter() - started)
            )
    assert got == [[0.005] * 200]
    gaps = [after - before for before, after in itertools.pairwise(seen)]
    assert len(seen) == 200
    assert sum(gap > 0.02 for gap in gaps) >= 3  # they came in several goes, not in one


def test_what_was_evaluated_is_not_lost_with_the_worker_but_for_a_tenth_of_a_second(tmp_path: Path) -> None:
    with crew_of(2) as crew:
        points = [(str(tmp_path / "log"), j, 60) for j in range(100)]
        (got,) = crew.run([(functions.naps_and_dies_once, points)])
    assert got == list(range(100))
    calls = (tmp_path / "log").read_text().split()
    assert len(calls) - 100 <= 8  # 20 ms each: the point at which it died, and those of the last 0.1 s and more
