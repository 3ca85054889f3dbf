"""What tells one f from another, in every process that runs the same program: a digest of its code and of all that it holds."""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import hashlib
import marshal
import operator
import reprlib
import sys
import sysconfig
import threading
import types
import typing
import weakref
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from arraydiff.arguments import unflatten
from arraydiff.backends import backend_of, is_array
from arraydiff.problem import Call

FORMAT = b"arraydiff 3"
"""Of what is stored: another one is another key."""


def digest(numbers: Any) -> bytes:
    """Of an array of numbers, whose bytes are read where they lie if they lie in order."""
    digest = hashlib.sha256(f"{numbers.dtype} {numbers.shape} ".encode())
    if numbers.nbytes:
        digest.update(numbers.reshape(-1).view("u1") if numbers.flags.c_contiguous else numbers.tobytes())
    return digest.digest()


def identity(call: Call, store: Any) -> bytes:
    """What tells one f, with its other arguments, from another: a digest of its code and of all that it holds but the store."""
    args = [None if place in call.places else value for place, value in enumerate(call.args)]
    kwargs = {name: value for name, value in sorted(call.kwargs.items()) if name not in call.places}
    layout, library = call.layout, type(call.backend)
    parts = [call.fun, args, kwargs, call.places, call.single, call.has_aux, call.batch_axis, layout.leaves, library]
    parts += [_tree(layout.structure, len(layout.leaves)), call.cotangent]
    try:
        return hashlib.sha256(FORMAT + Told({id(store): b"store"})(parts)).digest()
    except RecursionError as error:
        raise TypeError(
            "store tells one f from another by all that it holds, which is nested too deeply here: pass arrays in the place of "
            "chains of objects, or leave store out"
        ) from error


def _tree(structure: Any, size: int) -> list[Any]:
    """The structure of a tree, as that of whole numbers; of a node that does not take these, by its entries."""
    if structure is None:
        return []
    try:
        return [unflatten(structure, range(size))]
    except Exception:  # noqa: BLE001 - a class of the user's that checks what it is made of
        children = [_tree(child, child.num_leaves) for child in structure.children()]
        return [structure.type, list(structure.entries()), children]


def _by_value(value: Any) -> bytes:
    return f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")


PLAIN: dict[type, Callable[[Any], bytes]] = {
    **dict.fromkeys((type(None), bool, float, complex, str, type(...), type(NotImplemented)), _by_value),
    bytes: lambda value: b"bytes " + hashlib.sha256(value).digest(),
    int: lambda value: f"int {value:x}".encode(),  # decimal digits of a long one are refused
}
FLAT = frozenset({type(None), bool, int, float, complex, str, bytes})
MARSHALLED = 2  # the last version that writes no references: only contents count, not which strings are one object
LOCKS = (type(threading.Lock()), type(threading.RLock()))
CONTENT_ALONE = (tuple, frozenset, types.CodeType)  # the compiler may or may not make one object of equal ones


class Told:
    """Bytes of values: equal in every process that runs the same program, different for values that can be told apart.

    Functions and classes are told by their code, since a name says nothing of what it stands for; those that can be reached by
    name in an installed library by that name and the library's version.  To the code of a function belong the functions that it
    calls by name.
    """

    def __init__(self, known: dict[int, bytes] | None = None) -> None:
        self.known = {} if known is None else known
        self.open: dict[int, int] = {}  # what is being told, with its number: cycles end there
        self.alive: list[Any] = []  # so that an id stays the id of one thing
        self.seen = 0

    def __call__(self, value: Any) -> bytes:
        plain = PLAIN.get(type(value))
        if plain is not None:
            return plain(value)
        key = id(value)
        if key in self.known:
            return self.known[key]
        if key in self.open:
            return f"seen {self.open[key]}".encode()
        self.seen += not isinstance(value, CONTENT_ALONE)
        self.open[key] = self.seen
        self.alive.append(value)
        try:
            self.known[key] = self._digest(value)
        finally:
            del self.open[key]
        return self.known[key]

    def _digest(self, value: Any) -> bytes:
        named = _library_name(value)
        parts = _parts(value) if named is None else named
        digest = hashlib.sha256(b"named" if named is not None else b"made" + self(type(value)))
        if type(value) in (set, frozenset):
            digest.update(b"".join(sorted(hashlib.sha256(self(part)).digest() for part in parts)))
        elif set(map(type, parts)) <= FLAT:
            digest.update(b"flat" + marshal.dumps(parts, MARSHALLED))
        else:
            for told in map(self, parts):
                digest.update(f"{len(told)} ".encode() + told)
        return digest.digest()


def _parts(value: Any) -> list[Any]:
    """What a value is made of, beside its type."""
    exact = EXACT.get(type(value))
    if exact is not None:
        return exact(value)
    for kinds, parts_of in PARTS:
        if isinstance(value, kinds):
            return parts_of(value)
    return _parts_of_instance(value)


def _parts_of_class(value: type) -> list[Any]:
    """All of its code and its constants; annotations, and what Python caches in a class, are none of f's business."""
    module = _module(value)
    if module is not None and _is_compiled(module):
        return [module, value.__qualname__]
    members = {name: part for name, part in sorted(vars(value).items()) if name not in OF_PYTHON}
    return [value.__module__, value.__qualname__, value.__bases__, members]


OF_PYTHON = {
    *("__dict__", "__weakref__", "__doc__", "__classdictcell__", "__firstlineno__", "__static_attributes__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__orig_bases__", "__parameters__", "__type_params__", "__abstractmethods__", "_abc_impl"),
    *("_value2member_map_", "_unhashable_values_", "_unhashable_values_map_", "_hashable_values_"),  # of an Enum
}


def _parts_of_array(array: Any) -> list[Any] | None:
    """Its numbers, with what a class of arrays keeps beside them, such as a mask or a unit; None where they cannot be had."""
    kind = type(array)
    beside = dict(getattr(array, "__dict__", {})) if hasattr(kind, "__array_finalize__") else {}
    if kind.__qualname__ == "memmap":
        beside = {}  # where in which file
    try:
        numbers = _plain(array)
    except Exception:  # noqa: BLE001 - a dtype that NumPy has not: then as an object
        return None
    if not numbers.dtype.hasobject:
        items: Any = digest(numbers)
    elif numbers.dtype.names:
        items = [(name, numbers[name]) for name in numbers.dtype.names]
    else:
        items = list(numbers.flat)
    return [beside, f"{array.dtype} {numbers.shape}", items]


def _plain(array: Any) -> Any:
    """NumPy's own array of the same numbers."""
    backend = backend_of([array])
    if str(array.dtype) == "torch.bfloat16":
        array = backend.xp.astype(array, backend.xp.float32)  # which holds all of it
    numbers = backend.as_numpy(array)
    return numbers.view(next(kind for kind in type(numbers).__mro__ if kind.__name__ == "ndarray"))


def _parts_of_function(value: types.FunctionType) -> list[Any]:
    cells = [_held(cell) for cell in value.__closure__ or ()]
    code, defaults = value.__code__, [value.__defaults__, value.__kwdefaults__]
    return [value.__module__, value.__qualname__, code, *defaults, cells, value.__dict__, _called(value)]


def _called(value: types.FunctionType) -> list[Any]:
    """Functions among the globals that it names; not what else these hold, which may say how far a job should run."""
    found = map(value.__globals__.get, sorted(_names(value.__code__)))
    return [part for part in found if isinstance(part, types.FunctionType)]


def _names(code: types.CodeType) -> set[str]:
    """Of globals and attributes, in all code inside too."""
    inside = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return set(code.co_names).union(*map(_names, inside))


def _held(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # a variable that has no value yet
        return []


def _parts_of_code(code: types.CodeType) -> list[Any]:
    """What it does; not where it stands."""
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    variables = [code.co_names, arguments, code.co_freevars, code.co_cellvars]
    shape = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
    return [code.co_code, code.co_exceptiontable, variables, shape, list(code.co_consts)]


def _parts_of_builtin(value: Any) -> list[Any]:
    """Of a binding, the object that it belongs to is a capsule."""
    owner = value.__self__ if type(value.__self__).__name__ != "PyCapsule" else None
    return [value.__qualname__, owner, _module(value)]


def _parts_of_module(module: types.ModuleType) -> list[Any]:
    """Its name and version; of one that the user compiled, its file."""
    file = Path(str(module.__file__)).read_bytes() if _is_compiled(module) else None
    return [module.__name__, _version(module), file]


def _is_compiled(module: types.ModuleType) -> bool:
    """Whether it is a library that the user compiled."""
    file = getattr(module, "__file__", None) or ""
    return file.endswith(tuple(EXTENSION_SUFFIXES)) and not _is_installed(module.__name__)


def _module(value: Any) -> types.ModuleType | None:
    """Where a thing was made: what is compiled there has no code to tell it by."""
    return sys.modules.get(getattr(value, "__module__", None) or "")


def _parts_of_field(value: dataclasses.Field[Any]) -> list[Any]:
    """Without its type, which is an annotation."""
    return [value.name, value.default, value.default_factory, value.metadata, value.init, value.kw_only]


EXACT: dict[type, Callable[[Any], list[Any]]] = {
    **dict.fromkeys((list, tuple, set, frozenset), list),
    dict: lambda value: [list(value), list(value.values())],
}
PARTS: tuple[tuple[Any, Callable[[Any], list[Any]]], ...] = (
    (type, _parts_of_class),
    (types.FunctionType, _parts_of_function),
    (types.CodeType, _parts_of_code),
    (types.MethodType, lambda value: [value.__func__, value.__self__]),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _parts_of_builtin),
    (
        (
            *(types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType),
            *(types.GetSetDescriptorType, types.MemberDescriptorType),
        ),
        lambda value: [value.__objclass__, value.__name__],
    ),
    (types.ModuleType, _parts_of_module),
    (functools.partial, lambda value: [value.func, value.args, value.keywords, vars(value)]),
    (functools._lru_cache_wrapper, lambda value: [value.__wrapped__]),
    ((staticmethod, classmethod), lambda value: [value.__func__, vars(value)]),
    (property, lambda value: [value.fget, value.fset, value.fdel, getattr(value, "__dict__", None)]),
    (functools.cached_property, lambda value: [vars(value)]),
    (types.CellType, _held),
    (types.MappingProxyType, lambda value: [dict(value)]),
    ((type({}.keys()), type({}.values()), type({}.items())), list),
    (memoryview, lambda value: [value.format, value.shape, value.tobytes()]),
    (dataclasses.Field, _parts_of_field),
    ((typing.TypeVar, typing.TypeVarTuple, typing.ParamSpec), lambda value: [value.__name__]),
    (weakref.ref, lambda value: [value()]),
    (LOCKS, lambda _: []),  # a lock says when, not what
)
"""How values are told whose pickle names code, or that have none."""
OF_LIBRARIES: dict[str, Callable[[Any], list[Any]]] = {
    "jaxlib.PjitFunction": lambda value: [value.__wrapped__],  # beside it are caches
    "jaxlib.Device": lambda value: [str(value)],
    "numpy.vectorize": lambda value: [value.pyfunc, value.signature, value.otypes, value.excluded],
}


def _parts_of_instance(value: Any) -> list[Any]:
    """What an object holds, beside the code of its class."""
    kind = type(value)
    numbers = _parts_of_array(value) if is_array(value) else None
    if numbers is not None:
        return numbers
    known = OF_LIBRARIES.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")
    if known is not None:
        return known(value)
    if hasattr(kind, "told_parts"):
        return list(value.told_parts())
    if isinstance(value, set | frozenset):  # of a class of its own
        return [object.__getstate__(value), set(value)]
    return _parts_of_pickle(value)


def _parts_of_pickle(value: Any) -> list[Any]:
    """As pickle and copy take it apart: attributes, slots, items, and what a class says of itself."""
    if value is _reached("numpy.random.mtrand", "_rand"):
        return []  # as distributions of SciPy hold it: a global, and another one in every process
    reduced: Any
    try:
        reduced = copyreg.dispatch_table.get(type(value), operator.methodcaller("__reduce_ex__", 4))(value)
    except Exception as error:
        raise _untold(value) from error
    if isinstance(reduced, str):
        name, module = reduced, _module_of(value, reduced)
        if _reached(module, name) is not value:
            raise _untold(value)
        return [name, *(_root(module) if _is_installed(module) else [sys.modules[module]])]
    made, items = list(reduced[:3]), [list(part) if part is not None else None for part in reduced[3:5]]
    return [*made, *items, *reduced[5:]]


def _module_of(value: Any, name: str) -> str:
    """Where a thing can be had by its name, in a library if it is in one; nothing is imported or asked of modules to find it."""
    told = getattr(value, "__module__", None)
    if isinstance(told, str):
        return told
    found = [key for key, module in sorted(sys.modules.items()) if getattr(module, "__dict__", {}).get(name) is value]
    return next((key for key in found if _is_installed(key)), found[0] if found else "")


def _untold(value: Any) -> TypeError:
    kind = type(value)
    return TypeError(
        f"store tells one f from another by all that it holds, and {reprlib.repr(value)} of type {kind.__module__}."
        f"{kind.__qualname__} does not say what it is made of: pass f an argument that can be pickled in its place, or leave "
        "store out"
    )


# ---- what belongs to an installed library


def _library_name(value: Any) -> list[Any] | None:
    """Qualified name, library and version, where the value can be reached by them; a function's code too, which costs little."""
    if not (isinstance(value, type) or _is_installed(type(value).__module__)):
        return None
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str) and _is_installed(module)):
        return None
    if _reached(module, name) is not value:
        return None
    code = [value.__code__] if isinstance(value, types.FunctionType) else []
    return [f"{module}.{name}", *_root(module), *code]


def _reached(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _root(module: str) -> tuple[str, str]:
    root = module.partition(".")[0]
    return root, _version(sys.modules.get(root))


def _version(module: Any) -> str:
    version = getattr(module, "__version__", "")
    return version if isinstance(version, str) else ""


OWN = __name__.partition(".")[0]
LIBRARIES = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")})


@functools.cache
def _is_installed(module: str) -> bool:
    """Whether its code stays as it is as long as its version does: of Python, of site-packages, or ours."""
    root = module.partition(".")[0]
    if root in (OWN, "__main__"):
        return root == OWN  # what runs as __main__ is the user's, also inside a program that was installed
    file = getattr(sys.modules.get(module), "__file__", None) or getattr(sys.modules.get(root), "__file__", None)
    if not isinstance(file, str):
        return root in sys.stdlib_module_names
    path = Path(file)
    apart = {"site-packages", "dist-packages"} & set(path.parts)
    return apart != set() or any(library in path.resolve().parents for library in LIBRARIES)
