"""What tells one f from another in a store: code edited between two runs, state, structure, and what cannot be told."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import types
import typing
from importlib.machinery import EXTENSION_SUFFIXES

import array_api_strict
import numpy as np
import pytest

import arraydiff as ad
from arraydiff.identity import Told

X = np.linspace(0.4, 1.6, 2)


def holding(value):
    """A function that closes over something."""

    def fun(x):
        return value, np.sum(x * x)

    return lambda x: fun(x)[1]


def found(store, fun, *args, **options):
    """Whether a store answers all that a derivative asks for."""
    return ad.grad(fun, method="central", store=store, **options).result(*(args or (X,))).function_points == 0


# ---- code that is edited between two runs

MINE = """
import functools
import numpy as np

class Base:
    def scaled(self, x):
        return {edited} * x

class Called(Base):
    def __call__(self, x):
        return np.sum(self.scaled(x) ** 2)

class Slotted:
    __slots__ = ("power",)
    def __init__(self):
        self.power = 2
    def fun(self, x):
        return np.sum(self.helped(x) ** self.power)
    def helped(self, x):
        return {edited} * x

class Kinds:
    @staticmethod
    def a(x):
        return {edited} * x
    @classmethod
    def b(cls, x):
        return cls.a(x)
    @functools.cached_property
    def c(self):
        return {edited}
    def __call__(self, x):
        return np.sum(self.b(x) ** 2)

class Numbers:
    scale = {edited}

class Meta(type):
    def made(cls, x):
        return {edited} * x

class OfMeta(metaclass=Meta):
    pass

def closing(held):
    return lambda x: np.sum(held.scaled(x) ** 2)

def closing_over_class(held):
    return lambda x: np.sum(held.made(x) ** 2)

def plain(x):
    return np.sum(({edited} * x) ** 2)

def residual(x, label):
    return {edited} * x + label

def helper(x):
    return inner(x)

def inner(x):
    return {edited} * x

def calling(x):
    return np.sum([helper(part) for part in x])
"""

JOB = """
import dbm.dumb, functools, json
import numpy as np
import arraydiff as ad
import mine

x, store = np.linspace(0.4, 1.6, 2), dbm.dumb.open("store", "c")
transforms = {
    "a function": ad.grad(mine.plain, store=store),
    "a callable object": ad.grad(mine.Called(), store=store),
    "a bound method with another": ad.grad(mine.Slotted().fun, store=store),
    "methods of all kinds": ad.grad(mine.Kinds(), store=store),
    "an object closed over": ad.grad(mine.closing(mine.Called()), store=store),
    "a class closed over": ad.grad(mine.closing_over_class(mine.OfMeta), store=store),
    "an object in a partial": ad.grad(functools.partial(mine.Called.__call__, mine.Called()), store=store),
    "an object in a list": ad.grad(lambda x, o=[mine.Called()]: o[0](x), store=store),
    "an attribute of a class": ad.grad(lambda x, o=mine.Numbers(): np.sum((o.scale * x) ** 2), store=store),
    "a hessian": ad.hessian(mine.plain, store=store),
    "a gradient of a gradient": ad.jacobian(ad.grad(mine.Called()), store=store),
    "functions called by name": ad.grad(mine.calling, store=store),
    "blocks": ad.normal_equations(mine.residual, blocks=2, store=store),
    "things of libraries": ad.grad(lambda x, of=(np.sin, np.linalg, np.sum): of[2](of[0](x)), store=store),
    "sets": ad.grad(lambda x, s={"a", "b", ("d", 1)}, m=frozenset("xyz"): np.sum(x) * (1 in {1, "b", "c"}), store=store),
}
told = {}
for name, made in transforms.items():
    told[name] = [int(made.result(x).function_points) for _ in range(2)]
print(json.dumps(told))
"""
NAMES = [
    "a function",
    "a callable object",
    "a bound method with another",
    "methods of all kinds",
    "an object closed over",
    "a class closed over",
    "an object in a partial",
    "an object in a list",
    "an attribute of a class",
    "a hessian",
    "a gradient of a gradient",
    "functions called by name",
    "blocks",
    "things of libraries",
    "sets",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Points evaluated: in a first run, in a second one, and in a third one after mine.py was edited; twice in each."""
    folder = tmp_path_factory.mktemp("edited")
    (folder / "job.py").write_text(JOB)
    told = []
    for edited, seed in (("2.0", "1"), ("2.0", "2"), ("3.0", "3")):
        (folder / "mine.py").write_text(MINE.replace("{edited}", edited))
        if edited != "2.0":
            os.utime(folder / "mine.py", (time.time() + 10, time.time() + 10))  # another time, for what Python compiled
        run = subprocess.run(
            [sys.executable, "job.py"],
            cwd=folder,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        told.append(json.loads(run.stdout))
    assert list(told[0]) == NAMES
    return told


@pytest.mark.parametrize("name", NAMES)
def test_another_process_finds_all_as_long_as_no_code_is_edited(name, runs):
    assert runs[0][name][0] > 0
    assert runs[0][name][1] == 0
    assert runs[1][name] == [0, 0]


@pytest.mark.parametrize("name", NAMES[:-2])
def test_nothing_is_found_after_code_was_edited(name, runs):
    first, second = runs[2][name]
    assert first == runs[0][name][0]
    assert second == 0


# ---- pairs


class Slots:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


class Plain:
    def __init__(self, a):
        self.a = a


class Numbers(np.ndarray):
    pass


class Letters(set):
    pass


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Abstract(abc.ABC):
    @abc.abstractmethod
    def of(self): ...


class Concrete(Abstract, typing.Generic[typing.TypeVar("T")]):
    def of(self):
        return super().__repr__()


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    a: int = 1
    b: list = dataclasses.field(default_factory=list, metadata={"unit": "m"})


Pair = collections.namedtuple("Pair", "a b")


def local(scale):
    class Local:
        constant = scale

    return Local()


def with_unit(unit):
    array = np.ones(2).view(Numbers)
    array.unit = unit
    return array


def itself(number):
    cycle = [number]
    cycle.append({"back": cycle})
    return cycle


def counted(start):
    def fun(x):
        return x

    fun.start = start
    return fun


def of_two(first, second):
    return [[first, second], [first]]


class Named(property):
    """With a state of its own."""


def named(name):
    made = Named(len)
    made.name = name
    return made


DIFFER = {
    "properties": (named("a"), named("b")),
    "memoryview": (memoryview(b"ab"), memoryview(b"ac")),
    "slots": (Slots(1), Slots(2)),
    "mapping proxy": (types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 2})),
    "keys": ({"a": 1}.keys(), {"b": 1}.keys()),
    "values": ({"a": 1}.values(), {"a": 2}.values()),
    "items": ({"a": 1}.items(), {"a": 2}.items()),
    "keys and a list": ({"a": 1}.keys(), ["a"]),
    "local classes": (local(1), local(2)),
    "objects in an array": (np.array([Plain(1)], object), np.array([Plain(2)], object)),
    "objects in a structured array": (np.array([([1],)], [("a", object)]), np.array([([2],)], [("a", object)])),
    "a mask": (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[0, 0])),
    "below a mask": (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 3], mask=[0, 1])),
    "a unit": (with_unit("m"), with_unit("km")),
    "dtypes": (np.ones(2), np.ones(2, np.float32)),
    "shapes": (np.ones((2, 3)), np.ones((3, 2))),
    "orders": (np.arange(6).reshape(2, 3).T, np.arange(6).reshape(3, 2)),
    "days": (np.array(["2020-01-01"], "M8[D]"), np.array(["2020-01-02"], "M8[D]")),
    "libraries": (np.ones(2), array_api_strict.ones(2)),
    "numbers and truths": ([1, 0], [True, False]),
    "1 and 1.0": ((1,), (1.0,)),
    "signs of zero": ([0.0], [-0.0]),
    "lists and tuples": ([1], (1,)),
    "nesting": ([[1], 2], [1, [2]]),
    "texts that join": (["ab", "c"], ["a", "bc"]),
    "texts and bytes": ("a", b"a"),
    "keys of a dict": ({"a": 1}, {"b": 1}),
    "modules": (np, np.linalg),
    "classes": (dict, list),
    "users' classes": (Slots, Plain),
    "an enum": (Colour.RED, Colour.BLUE),
    "a dataclass": (Record(1), Record(2)),
    "a field of a dataclass": (Record(1), Record(1, [1])),
    "a namedtuple": (Pair(1, 2), Pair(2, 1)),
    "a namedtuple and a tuple": (Pair(1, 2), (1, 2)),
    "a set": ({"a", "b"}, {"a", "c"}),
    "sets of different classes": ({"a"}, Letters("a")),
    "methods of arrays": (np.ones(2).dot, np.zeros(2).dot),
    "built-in functions": (abs, len),
    "ufuncs": (np.sin, np.cos),
    "cycles": (itself(1), itself(2)),
    "attributes of functions": (counted(1), counted(2)),
    "cached functions": (functools.lru_cache(lambda x: x), functools.lru_cache(lambda x: -x)),
    "partials": (functools.partial(np.sum, axis=0), functools.partial(np.sum, axis=1)),
    "options of a derivative": (ad.grad(np.sum), ad.grad(np.sum, method="central")),
    "its function": (ad.grad(np.sum), ad.grad(np.prod)),
    "its order": (ad.derivative(np.sin), ad.derivative(np.sin, n=2)),
}


@pytest.mark.parametrize(("one", "other"), DIFFER.values(), ids=DIFFER)
def test_what_differs_is_told_apart(one, other):
    told = [Told()(holding(value)) for value in (one, other)]
    assert told[0] != told[1]
    assert told == [Told()(holding(value)) for value in (one, other)]


def learnt(transform):
    transform(np.ones(2))
    transform.learnt["complex"] = "refused"
    return transform


SAME = {
    "slots": lambda: Slots([1, 2]),
    "local classes": lambda: local(1),
    "an abstract class": lambda: Concrete,
    "an instance of it": Concrete,
    "a dataclass": Record,
    "an array and one laid otherwise": iter([np.ones((2, 3)), np.ones((3, 2)).T]).__next__,
    "a cycle": lambda: itself(1),
    "one object twice and equal ones": iter([of_two(*[Plain(1)] * 2), of_two(Plain(1), Plain(1))]).__next__,
    "texts made apart": lambda: ["".join(["a", "b"]), "ab"],
    "sets filled otherwise": iter([{"a", "b", 1}, {1, "b", "a"}]).__next__,
    "a lock": lambda: {"lock": threading.Lock(), "all": threading.RLock(), "waits": threading.Condition()},
    "a derivative that learnt": iter([ad.grad(np.sum), learnt(ad.grad(np.sum))]).__next__,
    "one with other workers": iter([ad.grad(np.sum), ad.grad(np.sum, workers=map, store={}, max_memory=1e9)]).__next__,
    "an empty array": lambda: np.zeros((0, 3)),
    "strings in an array": lambda: np.array(["a", "bc"]),
}


@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_what_is_equal_is_found(make):
    assert Told()(holding(make())) == Told()(holding(make()))


def test_arrays_of_files_are_told_by_their_numbers(tmp_path):
    for name in ("a", "b"):
        np.save(tmp_path / name, np.arange(5.0))
    one, other = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("a", "b"))
    assert Told()(one) == Told()(other)


def unfilled(x):
    if x is None:
        later = 1

    def fun(y):
        return np.sum(y) if y is not None else later

    return fun


def test_a_variable_that_has_no_value_yet_is_told():
    store = {}
    assert not found(store, unfilled(X))
    assert found(store, unfilled(X))


def test_modules_classes_and_namespaces_are_taken_as_arguments_and_closed_over():
    store = {}
    for again in (False, True):
        assert found(store, lambda x, xp: xp.sum(x * x), X, np) is again
        assert found(store, holding(array_api_strict)) is again
        assert found(store, holding((np.ndarray, type(array_api_strict.ones(1)), Slots, np.float64))) is again


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_functions_and_modules_of_libraries_are_told(library):
    module = pytest.importorskip(library)
    if library == "jax":
        held = [module.numpy, module.numpy.sin, module.jit(lambda x: x), module.vmap(lambda x: x), module.devices()[0]]
    else:
        held = [module, module.sin, module.nn.Tanh(), module.float64, module.ones(2, dtype=module.bfloat16)]
    told = [Told()(value) for value in held]
    assert len(set(told)) == len(held)
    assert told == [Told()(value) for value in held]
    if library == "jax":
        assert Told()(module.jit(lambda x: x)) != Told()(module.jit(lambda x: -x))


def test_a_function_that_numpy_vectorizes_is_found_again_after_it_was_called():
    store, fun = {}, np.vectorize(lambda v: v * v, otypes=[float])
    assert not found(store, holding(fun))
    fun(X)  # which makes a ufunc, kept in the object
    assert found(store, holding(fun))
    assert not found(store, holding(np.vectorize(lambda v: v + v, otypes=[float])))


def test_a_compiled_module_of_the_users_is_told_by_its_file(tmp_path):
    module, told = types.ModuleType("compiled_by_the_user"), set()
    module.__file__ = str(tmp_path / f"compiled{EXTENSION_SUFFIXES[0]}")
    for contents in (b"one", b"two", b"two"):
        (tmp_path / module.__file__).write_bytes(contents)
        told.add(Told()(holding(module)))
    assert len(told) == 2


@pytest.mark.parametrize(
    "value",
    [np.frompyfunc(lambda a: a, 1, 1), (number for number in range(3)), sys.stdout, threading.local()],
    ids=["ufunc", "generator", "file", "local"],
)
def test_what_has_nothing_to_tell_is_refused_with_its_type_and_a_way_out(value):
    kind = type(value)
    with pytest.raises(TypeError, match=r"leave store\s+out") as raised:
        ad.grad(holding(value), store={})(X)
    assert f"{kind.__module__}.{kind.__qualname__}" in str(raised.value)


def test_chains_of_objects_that_are_too_long_are_refused():
    chain = None
    for _ in range(5000):
        chain = [chain]
    with pytest.raises(TypeError, match="nested too deeply"):
        ad.grad(holding(chain), store={})(X)


# ---- arguments


def both(tree):
    return sum((i + 1) * np.sum(leaf**2) for i, leaf in enumerate(tree.values() if isinstance(tree, dict) else tree))


def first(x):
    return x[0] if isinstance(x, tuple) else x


TREES = [
    {"a": np.ones(2), "b": np.ones(2)},
    {"b": np.ones(2), "c": np.ones(2)},
    [np.ones(2), np.ones(2)],
    (np.ones(2), np.ones(2)),
    collections.OrderedDict(a=np.ones(2), b=np.ones(2)),
]


def test_the_structure_of_the_arguments_counts():
    store = {}
    for again in (False, True):
        for tree in TREES:
            assert found(store, both, tree) is again


def test_one_argument_and_a_tuple_of_one_are_two_things():
    store = {}
    for again in (False, True):
        for argnums in (0, (0,)):
            assert found(store, lambda x: np.sum(first(x)), argnums=argnums) is again
        assert found(store, lambda x: np.sum(first(x)), (X,)) is again


# ---- the same object again


def test_transforms_find_their_own_store_again():
    store = {}
    inner = ad.grad(lambda x: np.sum(np.real(x) ** 3))  # which learns that f is not analytic
    for again in (False, True):
        hessian = ad.jacobian(inner, store=store, unreliable="ignore").result(X)
        assert (hessian.function_points == 0) is again


def test_large_things_are_told_quickly():
    slow = 1.0  # seconds; one at a time they took 2.5
    for value in (list(range(10**6)), np.zeros(10**7), [np.zeros(10**7)] * 50):
        start = time.perf_counter()
        Told()(holding(value))
        assert time.perf_counter() - start < slow


# ---- what changes while f is evaluated

LEFT = {"calls": -1}


class Counting:
    """With a count, a cache, the last point, and the store that it is given to."""

    def __init__(self, power=2.0, store=None):
        self.power, self.calls, self.cache, self.buffer, self.store = power, 0, {}, None, store

    def __call__(self, x):
        self.calls += 1
        if self.calls == LEFT["calls"]:
            raise KeyboardInterrupt
        self.buffer = x + 0
        return self.cache.setdefault(x.tobytes(), np.sum(np.sin(self.buffer) ** self.power))


def counting_in_a_list():
    calls = []

    def fun(x):
        calls.append(x)
        return np.sum(np.sin(x) ** 2)

    return fun


def counting_in_a_variable():
    calls = 0

    def fun(x):
        nonlocal calls
        calls += 1
        return np.sum(np.sin(x) ** 2)

    return fun


def counting_in_an_attribute():
    def fun(x):
        fun.calls += 1
        return np.sum(np.sin(x) ** 2)

    fun.calls = 0
    return fun


COUNTING = [Counting, counting_in_a_list, counting_in_a_variable, counting_in_an_attribute]


@pytest.mark.parametrize("make", COUNTING)
@pytest.mark.parametrize("method", ["complex_step", "central", "richardson"])
def test_an_f_that_counts_its_calls_or_fills_a_cache_finds_its_own_again(make, method):
    def taken(fun, x):
        options = {"method": method, "store": store, "unreliable": "ignore"}
        return int(ad.grad(fun, **options).result(x).function_points)

    store, fun = {}, make()
    first = [taken(fun, X + shift) for shift in range(3)]
    assert min(first) > 0
    assert [taken(fun, X + shift) for shift in range(3)] == [0, 0, 0]
    assert [taken(make(), X + shift) for shift in range(3)] == [0, 0, 0]  # as another process makes it
    assert taken(fun, X + 3) > 0
    assert taken(make(), X + 3) == 0


def test_a_job_of_several_gradients_that_is_interrupted_goes_on_with_what_f_holds_by_then():
    plain = [Counting(), Counting()]
    right = [ad.grad(plain[0], trace=False)(X + shift) for shift in range(3)]
    for left in range(1, plain[0].calls):
        store, fun = {}, Counting()
        LEFT["calls"] = left
        with pytest.raises(KeyboardInterrupt):
            [ad.grad(fun, store=store)(X + shift) for shift in range(3)]
        LEFT["calls"] = -1
        np.testing.assert_array_equal([ad.grad(fun, store=store)(X + shift) for shift in range(3)], right)
        assert fun.calls == plain[0].calls + 1  # the one that was interrupted


def test_an_f_that_somebody_else_changes_in_between_is_another_one():
    store, fun = {}, Counting()
    found(store, fun)
    assert found(store, fun)
    fun.power = 3.0
    fun.cache.clear()
    assert not found(store, fun)
    np.testing.assert_allclose(ad.grad(fun, store=store)(X), 3 * np.sin(X) ** 2 * np.cos(X), rtol=1e-13)


def test_a_stepper_that_is_made_anew_knows_an_f_that_counts():
    store, fun = {}, Counting()
    for _ in range(2):
        stepper = ad.grad(fun, store=store).stepper(X)
        asked = stepper.ask()
        if asked:
            stepper.tell([fun(point) for point in asked])
    calls = fun.calls
    while points := stepper.ask():
        stepper.tell([fun(point) for point in points])
    assert calls <= fun.calls == len(fun.cache)
    assert ad.grad(fun, store=store).stepper(X).ask() == []


def test_an_f_may_hold_the_store_itself():
    store = {}
    assert not found(store, Counting(store=store))
    assert found(store, Counting(store=store))


def test_an_f_that_opens_a_file_loses_nothing_and_is_refused_the_next_time(tmp_path):
    def fun(x):
        opened.append((tmp_path / "log").open("a"))
        return np.sum(np.sin(x))

    opened = []
    np.testing.assert_allclose(ad.grad(fun, store={})(X), np.cos(X), rtol=1e-14)
    with pytest.raises(TypeError, match="does not say what it is made of"):
        ad.grad(fun, store={})(X)
    for file in opened:
        file.close()


@pytest.mark.parametrize("entry", [b"half", None, "text"])
def test_half_of_what_leads_to_the_entries_of_an_f_that_counts_is_nothing(entry):
    store, fun = {}, Counting()
    found(store, fun)
    for key in [key for key, value in store.items() if len(value) == 32]:
        store[key] = entry
    assert not found(store, fun)
    assert found(store, fun)


# ---- a mapping that fails


class Failing(dict):
    """Raises what it is told to."""

    def __init__(self, reading=None, writing=None):
        self.reading, self.writing = reading, writing

    def __getitem__(self, key):
        if self.reading is not None:
            raise self.reading
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        if self.writing is not None:
            raise self.writing
        super().__setitem__(key, value)


def test_a_mapping_that_is_locked_or_broken_says_so():
    for store in (Failing(reading=OSError("locked")), Failing(writing=OSError("locked"))):
        with pytest.raises(OSError, match="locked") as raised:
            ad.grad(np.sum, store=store)(X)
        assert any("store" in note for note in raised.value.__notes__)


@pytest.mark.parametrize("error", [KeyError("x"), EOFError("ran out"), pickle.UnpicklingError("truncated")])
def test_half_an_entry_of_a_mapping_that_unpickles_is_evaluated_again(error):
    np.testing.assert_allclose(ad.grad(np.sum, store=Failing(reading=error))(X), np.ones(2))


@pytest.mark.parametrize("entry", [b"", b"garbage", pickle.dumps("of another program"), None])
def test_an_entry_that_is_none_is_evaluated_again(entry):
    store = {}
    right = ad.grad(np.sum, store=store)(X)
    store.update(dict.fromkeys(store, entry))
    np.testing.assert_array_equal(ad.grad(np.sum, store=store)(X), right)
    assert found({}, np.sum) is False
