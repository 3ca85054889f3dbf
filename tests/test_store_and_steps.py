"""Evaluations made before, or elsewhere: a store that outlives the job, ask and tell, and progress."""

from __future__ import annotations

import dbm.dumb
import functools
import multiprocessing
import pickle
import shelve
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import arraydiff as ad

# Other tests have threads when processes are forked here; the functions use none of their locks.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning"),
]

X = np.linspace(0.4, 1.6, 6)
METHODS = ["adaptive", "complex_step", "richardson", "central", "forward"]
STATE = {"calls": 0, "left": -1}
NAMES = set()


def noted():
    """One call of f more; the job is killed where there were enough."""
    if STATE["left"] == 0:
        raise KeyboardInterrupt
    STATE["left"] -= 1
    STATE["calls"] += 1


def smooth(x):
    noted()
    return np.sum(np.sin(x) * x) + x[0] * x[-1]


def real(x):
    noted()
    return sum(np.sin(float(v)) * float(v) for v in x) + float(x[0]) * float(x[-1])


def many(x):
    noted()
    return {"a": np.outer(x, x), "b": np.sum(x)}


def measured(x):
    noted()
    return np.sum(x**2), {"seen": len(x)}


@pytest.fixture(autouse=True)
def _anew():
    STATE.update(calls=0, left=-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fun", [smooth, real])
def test_a_job_that_was_killed_goes_on_from_its_store_and_repeats_no_finished_evaluation(method, fun):
    gradient = functools.partial(ad.grad, fun, method=method, unreliable="ignore", trace=False)
    plain = gradient().result(X)
    for killed_after in (1, 8, plain.function_points - 1):
        store = {}
        STATE.update(calls=0, left=killed_after)
        with pytest.raises(KeyboardInterrupt):
            gradient(store=store)(X)
        STATE["left"] = -1
        resumed = gradient(store=store).result(X)
        np.testing.assert_array_equal(resumed.gradient, plain.gradient)
        np.testing.assert_array_equal(resumed.error_estimate, plain.error_estimate)
        refused = 2 * (fun is real and method in ("adaptive", "complex_step"))  # complex points raise: tried again
        assert STATE["calls"] <= plain.function_points + refused


@pytest.mark.parametrize("kind", ["dict", "shelve", "dbm"])
def test_a_second_job_with_the_same_store_evaluates_nothing(kind, tmp_path):
    name = str(tmp_path / "kept")
    opened = {"dict": dict, "shelve": lambda: shelve.open(name), "dbm": lambda: dbm.dumb.open(name, "c")}  # noqa: SIM115
    store = opened[kind]()
    first = ad.jacobian(many, store=store).result(X)
    second = ad.jacobian(many, store=store).result(X)
    assert first.function_points == STATE["calls"] > 6
    assert second.function_points == second.function_calls == 0
    np.testing.assert_array_equal(first.jacobian["a"], second.jacobian["a"])
    np.testing.assert_array_equal(first.value["b"], second.value["b"])
    if kind != "dict":
        store.close()


def test_what_f_returns_beside_its_value_is_kept_too_and_all_kinds_of_calls_find_their_own():
    store = {}
    for made in (
        functools.partial(ad.grad, measured, has_aux=True),
        functools.partial(ad.hessian, smooth),
        functools.partial(ad.derivative, np.sin),
        functools.partial(ad.grad, lambda x: np.sum(x**3, axis=0), vectorized=True),
        functools.partial(ad.grad, smooth, in_axes=0),
    ):
        x = np.stack([X, X + 1]) if "in_axes" in made.keywords else X
        first, second = made(store=store)(x), made(store=store).result(x)
        assert second.function_points == 0
        np.testing.assert_array_equal(second.derivative, first[0] if second.aux else first)
        assert second.aux in (None, {"seen": 6})


def test_another_function_another_argument_or_another_constant_is_not_found():
    store = {}

    def made(power, data, shift=0.0):
        return lambda x, a: np.sum(x**power) * a[0] + data[0] * x[0] + shift

    told = []
    for fun, a in (
        (made(2, np.ones(2)), np.ones(1)),
        (made(3, np.ones(2)), np.ones(1)),
        (made(2, np.zeros(2)), np.ones(1)),
        (made(2, np.ones(2)), 2 * np.ones(1)),
        (lambda x, a: np.sum(np.sin(x)), np.ones(1)),
        (lambda x, a: np.sum(np.cos(x)), np.ones(1)),
    ):
        result = ad.grad(fun, store=store).result(X, a)
        assert result.function_points > 6
        np.testing.assert_array_equal(result.gradient, ad.grad(fun, trace=False)(X, a))
        told.append(result.gradient[0])
    assert len(set(told)) == len(told)


def test_half_an_entry_of_a_job_that_was_killed_while_it_wrote_is_evaluated_again():
    store = {}
    right = ad.grad(smooth, store=store)(X)
    for key in list(store)[::2]:
        store[key] = store[key][:-3]
    np.testing.assert_array_equal(ad.grad(smooth, store=store)(X), right)


def test_what_cannot_be_kept_is_said():
    with pytest.raises(TypeError, match="store keeps what f returned, which cannot be pickled"):
        ad.grad(lambda x: (x[0], threading.Lock()), has_aux=True, store={})(X)
    with pytest.raises(ValueError, match="store wants a mapping"):
        ad.grad(smooth, store=3)


def test_a_process_that_is_killed_outright_leaves_a_store_that_another_goes_on_from(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "import dbm.dumb, os, sys\nimport numpy as np\nimport arraydiff as ad\n"
        "log, after = open('calls', 'a'), int(sys.argv[1])\n"
        "def f(x):\n"
        "    log.write('.'); log.flush()\n"
        "    if os.path.getsize('calls') == after: os._exit(9)\n"
        "    return np.sum(np.sin(x))\n"
        "store = dbm.dumb.open('store', 'c')\n"
        "class Synced:\n"
        "    def keys(self): return store.keys()\n"
        "    def __getitem__(self, key): return store[key]\n"
        "    def __setitem__(self, key, value): store[key] = value; store.sync()\n"
        "print(repr(ad.grad(f, store=Synced())(np.linspace(0.1, 1, 5)).tolist()))\n"
    )
    runs = [
        subprocess.run(
            [sys.executable, str(script), after], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        for after in ("10", "0")
    ]
    assert [run.returncode for run in runs] == [9, 0]
    np.testing.assert_allclose(eval(runs[1].stdout), np.cos(np.linspace(0.1, 1, 5)), rtol=1e-14)
    plain = ad.grad(lambda x: np.sum(np.sin(x)), trace=False).result(np.linspace(0.1, 1, 5)).function_points
    assert len(Path(tmp_path / "calls").read_text()) == plain + 1  # the one at which the process died


# ---- ask and tell


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fun", [smooth, real, lambda x: np.where(x[0] > 0.41, np.nan, np.sum(x * x))])
def test_points_that_are_asked_for_and_told_give_the_same_bits(method, fun):
    transform = ad.grad(fun, method=method, unreliable="ignore")
    stepper, rounds = transform.stepper(X), 0
    while points := stepper.ask():
        assert all(np.array_equal(a, b) for a, b in zip(points, stepper.ask(), strict=True))  # asked again: the same
        values = []
        for point in points:
            try:
                values.append(fun(point))
            except Exception as error:  # noqa: BLE001
                values.append(error)
        stepper.tell(values)
        rounds += 1
    told, made = stepper.result(), ad.grad(fun, method=method, unreliable="ignore", trace=False).result(X)
    for name in ("gradient", "error_estimate", "status", "value"):
        np.testing.assert_array_equal(getattr(told, name), getattr(made, name))
    assert (told.function_points, told.rounds, told.method_used) == (made.function_points, rounds, made.method_used)


def test_points_have_the_structure_of_the_arguments_and_values_that_of_the_output():
    def f(p, q):
        return {"sum": p["a"] * q, "n": q}

    stepper = ad.jacobian(f, argnums=(0, 1)).stepper({"a": np.array([1.0, 2.0])}, 3.0)
    while points := stepper.ask():
        stepper.tell([f(*point) for point in points])
    result = stepper.result()
    np.testing.assert_allclose(result.jacobian["sum"][0]["a"], 3 * np.eye(2))
    np.testing.assert_allclose(result.jacobian["sum"][1], [1, 2])
    np.testing.assert_array_equal(result.value["sum"], [3, 6])
    assert "vouched for" in result.explain()


def test_a_stepper_with_a_store_asks_for_nothing_twice():
    store = {}
    for _ in range(2):
        stepper, asked = ad.grad(smooth, store=store).stepper(X), 0
        while points := stepper.ask():
            asked += len(points)
            stepper.tell([smooth(point) for point in points])
        result = stepper.result()
    assert asked == 0
    np.testing.assert_allclose(result.gradient, ad.grad(smooth)(X), rtol=1e-15)


def test_what_is_told_wrongly_is_said():
    stepper = ad.grad(smooth).stepper(X)
    with pytest.raises(ValueError, match="the derivative is not done"):
        stepper.result()
    with pytest.raises(ValueError, match=r"tell takes one value a point, 7 in all, got 1"):
        stepper.tell([1.0])
    with pytest.raises(TypeError, match="f must return"):
        stepper.tell(["text"] * 7)
    assert "7 points wait" in repr(stepper)
    while points := stepper.ask():
        stepper.tell([smooth(point) for point in points])
    with pytest.raises(ValueError, match="nothing is asked for"):
        stepper.tell([])
    for made in (ad.grad(smooth, vectorized=True), ad.hessian(smooth, method="central")):
        with pytest.raises(ValueError, match=r"leave vectorized|inner one"):
            made.stepper(X)


def test_what_f_raises_at_x_is_raised_by_tell():
    stepper = ad.grad(smooth).stepper(X)
    with pytest.raises(ZeroDivisionError):
        stepper.tell([ZeroDivisionError("at x")] * len(stepper.ask()))


# ---- progress


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"workers": map}, {"vectorized": True}, {"chunk_size": 2}], ids=str)
def test_progress_counts_the_points_expects_what_comes_and_changes_nothing(method, options):
    def f(x):
        return np.sum(np.sin(x) * x, axis=0)

    seen = []
    plain = ad.grad(f, method=method, **options).result(X)
    told = ad.grad(f, method=method, progress=lambda *numbers: seen.append(numbers), **options).result(X)
    np.testing.assert_array_equal(told.gradient, plain.gradient)
    assert seen[-1] == (told.function_points, told.function_points)
    assert all(done <= expected for done, expected in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert told.function_points == plain.function_points


def test_progress_is_a_bar_of_tqdm_or_a_line_on_stderr_and_both_go_away(monkeypatch, capsys):
    pytest.importorskip("tqdm")
    plain = ad.grad(smooth)(X)
    np.testing.assert_array_equal(ad.grad(smooth, progress=True)(X), plain)
    assert "point" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    np.testing.assert_array_equal(ad.grad(smooth, progress=True)(X), plain)
    told = capsys.readouterr()
    assert told.out == ""
    assert "points, 0 s left" in told.err


def test_progress_of_a_batch_and_of_a_hessian_is_one_count():
    seen = []
    ad.grad(smooth, in_axes=0, progress=lambda *numbers: seen.append(numbers))(np.stack([X, X + 1]))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    seen.clear()
    ad.hessian(smooth, trace=False, progress=lambda *numbers: seen.append(numbers))(X)
    assert seen[-1][0] == seen[-1][1] > 6
    seen.clear()
    ad.hessian(smooth, progress=lambda *numbers: seen.append(numbers))(X)
    assert seen[-1] == (6, 6)  # x, followed, and four along a ray
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# ---- workers, as derivatives see them (tests/test_workers.py has the engines)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fun", [smooth, real, np.sum], ids=["smooth", "real", "sum"])
def test_processes_threads_and_maps_give_the_bits_and_the_counts_of_serial_evaluation(method, fun):
    plain = ad.grad(fun, method=method, unreliable="ignore").result(X)
    with ThreadPoolExecutor(3) as pool:
        for workers in (2, pool, pool.map, map):
            got = ad.grad(fun, method=method, unreliable="ignore", workers=workers).result(X)
            np.testing.assert_array_equal(got.gradient, plain.gradient)
            np.testing.assert_array_equal(got.error_estimate, plain.error_estimate)
            assert got.method_used == plain.method_used


def test_a_function_that_drops_imaginary_parts_with_a_warning_is_found_out_in_a_process_too():
    result = ad.grad(_cast, workers=2, trace=False).result(X)
    np.testing.assert_allclose(result.gradient, 2 * X, rtol=1e-9)
    assert "ComplexWarning" in result.reason


def _cast(x):
    return np.sum(x.astype(float) ** 2)


def test_a_function_that_warns_at_displaced_points_is_quiet_in_threads_and_processes_too():
    with ThreadPoolExecutor(2) as pool:
        for workers in (pool, 2):
            result = ad.grad(_edge, workers=workers).result(np.array([1e-3, 2.0]))
            np.testing.assert_allclose(result.gradient, [1e3, 0.5], rtol=1e-6)


def _edge(x):
    return np.sum(np.log(np.asarray([float(v) for v in x])))


def test_a_hessian_by_workers_is_that_of_serial_evaluation():
    np.testing.assert_array_equal(ad.hessian(smooth, workers=2)(X[:3]), ad.hessian(smooth)(X[:3]))


def test_a_batch_by_workers_is_that_of_serial_evaluation():
    points = np.stack([X, X + 1, X - 2])
    np.testing.assert_array_equal(ad.grad(smooth, in_axes=0, workers=2)(points), ad.grad(smooth, in_axes=0)(points))


def test_a_store_fills_with_what_workers_give():
    store = {}
    first = ad.grad(smooth, workers=2, store=store).result(X)
    assert ad.grad(smooth, store=store).result(X).function_points == 0
    assert len(store) == first.function_points


def test_a_point_travels_as_the_entry_that_is_displaced_however_many_there_are():
    sizes = []

    def mapped(function, tasks):
        tasks = list(tasks)
        sizes.extend(len(pickle.dumps(task)) for task in tasks)
        return [function(task) for task in tasks]

    x = np.linspace(1.0, 2.0, 20_000)
    got = ad.jvp(np.sum, (x,), (np.ones_like(x),), workers=mapped)
    assert got[1] == pytest.approx(len(x))
    sizes.clear()
    gradient = ad.grad(lambda x: np.sum(x[:50] ** 2) + x[-1], method="central", workers=mapped)(x)
    np.testing.assert_allclose(gradient[:50], 2 * x[:50], rtol=1e-7)
    assert len(sizes) == 5 + 2 * len(x)
    assert sorted(sizes)[-6] < 400


# ---- what a reviewer broke


def test_counts_are_what_f_saw_also_where_points_went_out_ahead():
    for x in (1.0, np.array([1.0, 0.2])):
        for workers, bounds in ((50, None), (50, (0.0, 3.0)), (400, None)):
            with ThreadPoolExecutor(workers) as pool:
                for fun in (smooth_of, abs_of):
                    STATE["calls"] = 0
                    result = ad.grad(fun, workers=pool, bounds=bounds, unreliable="ignore").result(x)
                    assert STATE["calls"] == result.function_calls == result.function_points


def smooth_of(x):
    noted()
    return np.sum(np.sin(x))


def abs_of(x):
    noted()
    return np.sum(np.abs(x) ** 3)


def test_what_is_stored_is_not_sent_out_ahead():
    store = {}
    with ThreadPoolExecutor(50) as pool:
        gradient = ad.grad(smooth, method="central", workers=pool, store=store)
        first = gradient(X)
        for key in list(store)[3:5]:
            del store[key]
        STATE["calls"] = 0
        np.testing.assert_array_equal(gradient(X), first)
    assert STATE["calls"] == 2


def test_rounds_are_those_in_which_something_was_evaluated():
    store = {}
    assert ad.grad(smooth, store=store).result(X).rounds == 3
    for options in ({}, {"workers": map}):
        assert ad.grad(smooth, store=store, **options).result(X).rounds == 0
    batch = np.stack([X, X])
    ad.grad(smooth, store=store, in_axes=0)(batch)


def _seen(seen, done, expected):
    seen.append((done, expected))


def test_vectorised_functions_are_stored_and_told_of_too():
    def f(x):
        noted()
        return np.sum(np.sin(x), axis=0)

    for made, x in (
        (functools.partial(ad.hessian, f), X),
        (functools.partial(ad.grad, f, in_axes=0), np.stack([X, X + 1])),
    ):
        store, seen = {}, []
        first = made(vectorized=True, store=store, progress=functools.partial(_seen, seen))(x)
        STATE["calls"] = 0
        np.testing.assert_array_equal(made(vectorized=True, store=store)(x), first)
        assert STATE["calls"] == 0
        assert seen[-1][0] == seen[-1][1] > 0


def test_a_progress_that_raises_in_the_end_leaves_no_process_behind():
    def told(done, expected):
        if done == expected:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as kept_alive:
        ad.grad(smooth, workers=2, progress=told)(X)
    assert kept_alive is not None
    assert not multiprocessing.active_children()


def test_a_stepper_that_was_told_a_wrong_shape_goes_on_and_one_that_failed_says_so():
    def f(x):
        return x * x

    stepper = ad.jacobian(f).stepper(X)
    stepper.tell([f(point) for point in stepper.ask()])
    with pytest.raises(ValueError, match=r"6 numbers at x but f gave 2"):
        stepper.tell([np.ones(2) for _ in stepper.ask()])
    while points := stepper.ask():
        stepper.tell([f(point) for point in points])
    np.testing.assert_allclose(stepper.result().jacobian, 2 * np.diag(X))
    failed = ad.grad(smooth).stepper(X)
    with pytest.raises(ZeroDivisionError):
        failed.tell([ZeroDivisionError("at x")] * len(failed.ask()))
    assert "failed" in repr(failed)
    for call in (failed.ask, failed.result, lambda: failed.tell([])):
        with pytest.raises(ValueError, match="the derivative failed") as error:
            call()
        assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_what_has_no_stepper_says_so():
    for made in (ad.normal_equations(lambda x: x * x), ad.grad(smooth, in_axes=0)):
        with pytest.raises((TypeError, ValueError), match="stepper"):
            made.stepper(X)


def test_a_store_is_not_printed_and_numbers_of_numpys_will_do():
    store = {"key": b"x" * 1000}
    shown = repr(ad.grad(smooth, store=store, workers=np.int64(2), max_memory=np.int64(10**9)))
    assert "store=<dict>" in shown
    assert len(shown) < 300


def test_attributes_of_a_callable_object_stay_its_own():
    class Model:
        def __init__(self):
            self.result, self.elementwise = 5, True

        def __call__(self, x):
            return np.sum(x**2)

    np.testing.assert_allclose(ad.grad(Model()).result(X).gradient, 2 * X)


def test_complex_outputs_count_no_call_that_never_was():
    def f(z):
        noted()
        return np.exp(1j * z)

    for options in ({}, {"workers": map}):
        STATE["calls"] = 0
        assert ad.jacfwd(f, **options).result(X).function_calls == STATE["calls"]


@pytest.mark.parametrize("method", METHODS)
def test_blocks_of_a_vectorised_function_go_to_workers_a_chunk_each(method):
    def f(x):
        noted()
        NAMES.add(threading.current_thread().name)
        return np.sum(np.sin(x) * x, axis=0)

    x = np.linspace(0.4, 1.6, 30)
    plain = ad.grad(f, method=method, vectorized=True).result(x)
    NAMES.clear()
    STATE["calls"] = 0
    store, seen = {}, []
    with ThreadPoolExecutor(3) as pool:
        options = {"method": method, "vectorized": True, "workers": pool, "store": store}
        got = ad.grad(f, **options, progress=functools.partial(_seen, seen)).result(x)
        assert STATE["calls"] == got.function_calls >= 4
        np.testing.assert_allclose(got.gradient, plain.gradient, rtol=1e-9)
        assert any("ThreadPool" in name for name in NAMES)
        assert ad.grad(f, **options).result(x).function_calls == 0
    assert seen[-1] == (got.function_points, got.function_points)


def test_a_block_that_raises_in_a_worker_costs_its_own_entries():
    def f(x):
        noted()
        if np.any(x[2] > X[2]):
            raise ValueError("never above")
        return np.sum(x * x, axis=0)

    with ThreadPoolExecutor(2) as pool:
        result = ad.grad(f, method="forward", vectorized=True, workers=pool, unreliable="ignore").result(X)
    np.testing.assert_allclose(np.delete(result.gradient, 2), np.delete(2 * X, 2), rtol=1e-6)
    assert STATE["calls"] == result.function_calls


def _rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def _numbers(x):
    return np.array([float(v) for v in x])


WIDE = {
    "analytic": _rosenbrock,
    "real": lambda x: float(_rosenbrock(_numbers(x))),
    "abs": lambda x: np.sum(np.abs(x) ** 3 * np.sin(x)),
    "wave": lambda x: float(np.cos(np.sum(_numbers(x) * np.arange(len(x))))),
    "single": lambda x: float(np.sum(np.sin(_numbers(x)).astype(np.float32))),
    "bell": lambda x: float(np.exp(-np.sum(_numbers(x) ** 2) / 10)),
}


class Simulated(Executor):
    """So many workers, none of which is waited for."""

    def __init__(self, width):
        self._max_workers = width

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("method", ["adaptive", "richardson", "complex_step", "central", "forward"])
def test_with_workers_for_all_points_there_are_at_most_three_rounds_and_the_bits_are_the_same(name, method):
    x, options = np.linspace(0.5, 1.5, 40), {"method": method, "unreliable": "ignore", "trace": False}
    plain = ad.grad(WIDE[name], **options).result(x)
    with Simulated(1000) as workers:
        wide = ad.grad(WIDE[name], workers=workers, **options).result(x)
    np.testing.assert_array_equal(wide.gradient, plain.gradient)
    np.testing.assert_array_equal(wide.error_estimate, plain.error_estimate)
    assert wide.rounds <= 3
    assert wide.function_points <= 1000 + plain.function_points


def test_points_that_go_out_ahead_stay_inside_the_bounds():
    seen = []

    def f(x):
        seen.append(np.real(x).copy())
        return float(np.sum(np.log(_numbers(np.real(x)))))

    x = np.linspace(0.01, 0.03, 12)
    with Simulated(1000) as workers:
        ad.grad(f, bounds=(0.009, 0.031), workers=workers, opaque=True, unreliable="ignore")(x)
    assert np.min(seen) >= 0.009
    assert np.max(seen) <= 0.031


@pytest.mark.parametrize("method", ["adaptive", "richardson", "complex_step", "central"])
def test_a_step_is_kept_to_the_letter_by_points_that_go_out_ahead_too(method):
    seen = []

    def f(x):
        seen.append(_numbers(x))
        return float(np.sum(seen[-1] ** 3))

    x = np.linspace(1.0, 2.0, 6)
    with Simulated(1000) as workers:
        ad.grad(f, method=method, step_size=2.0**-10, workers=workers, unreliable="ignore")(x)
    alone = [point - x for point in seen if np.count_nonzero(point - x) == 1]
    steps = np.concatenate([moved[moved != 0] for moved in alone]) * 2.0**10
    assert len(steps) >= 12
    np.testing.assert_array_equal(steps, np.round(steps))
