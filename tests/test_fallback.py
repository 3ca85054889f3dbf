"""Code written for JAX runs with it and without it; what only JAX can do says so by name, with the remedy."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
import textwrap
from collections import namedtuple

import numpy as np
import pytest

HAS_JAX = importlib.util.find_spec("jax") is not None
needs_jax = pytest.mark.skipif(not HAS_JAX, reason="compares with JAX, which is not installed")

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib"):
            raise {error}

sys.meta_path.insert(0, Blocker())
"""


def run_where_jax_fails(code: str, error: str = "ImportError('no JAX in this process')") -> str:
    """What `code` prints in a process where importing JAX raises `error`."""
    script = BLOCKED.format(error=error) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def plain():
    """The module as it is where JAX is missing."""
    kept = {name: sys.modules.pop(name) for name in ("jax", "arraydiff.fallback") if name in sys.modules}
    sys.modules["jax"] = None  # what makes `import jax` raise
    try:
        module = importlib.import_module("arraydiff.fallback")
        del sys.modules["jax"]
        sys.modules.update({name: kept[name] for name in kept if name == "jax"})
        yield module
    finally:
        for name in ("jax", "arraydiff.fallback"):
            sys.modules.pop(name, None)
        sys.modules.update(kept)


def norm(x):
    return (x**2).sum()


# where importing JAX fails


def test_code_written_for_jax_runs_where_importing_jax_fails():
    printed = run_where_jax_fails("""
        from functools import partial
        from arraydiff.fallback import JAX_AVAILABLE, JAX_IMPORT_ERROR, grad, hessian, jacfwd, jacrev, jit, jnp
        from arraydiff.fallback import jvp, value_and_grad, vjp, vmap

        @partial(jit, static_argnums=(1,))
        def loss(x, power):
            return jnp.sum(jnp.exp(x) ** power)

        x = jnp.asarray([0.0, 1.0])
        exact = 2 * jnp.exp(2 * x)
        assert not JAX_AVAILABLE and isinstance(JAX_IMPORT_ERROR, ImportError)
        assert jnp.allclose(grad(loss)(x, 2), exact, rtol=1e-12)
        value, gradient = value_and_grad(loss)(x, 2)
        assert jnp.allclose(value, jnp.exp(2 * x).sum()) and jnp.allclose(gradient, exact)
        assert jnp.allclose(hessian(loss)(x, 2), jnp.diag(2 * exact), rtol=1e-6, atol=1e-6)
        assert jnp.allclose(jacfwd(jnp.exp)(x), jnp.diag(jnp.exp(x)), atol=1e-12)
        assert jnp.allclose(jacrev(jnp.exp)(x), jnp.diag(jnp.exp(x)), atol=1e-12)
        assert jnp.allclose(jvp(jnp.exp, (x,), (jnp.ones(2),))[1], jnp.exp(x))
        assert jnp.allclose(vjp(jnp.exp, x)[1](jnp.ones(2))[0], jnp.exp(x))
        assert vmap(grad(lambda t: t**3))(x).tolist() == [0.0, 3.0]
        assert "jax" not in __import__("sys").modules
        print("ran")
    """)
    assert printed == "ran"


REFUSED = {
    "from arraydiff.fallback import lax": ("ImportError", "'lax'.*plain Python"),
    "from arraydiff.fallback import grad, random": ("ImportError", "'random'.*default_rng"),
    "fallback.lax": ("AttributeError", "'lax'.*plain Python"),
    "fallback.nn": ("AttributeError", "'nn'.*jnp"),
    "fallback.scipy": ("AttributeError", "'scipy'.*from scipy"),
    "fallback.jnp.bfloat16": ("AttributeError", r"jnp\.bfloat16.*jnp\.float32"),
    "fallback.jit(lambda x: x.at[0].set(1.0))(numpy.ones(3))": ("AttributeError", r"x\.at.*jnp\.where"),
    "fallback.grad(lambda x: x.at[0].set(1.0).sum())(numpy.ones(3))": ("AttributeError", r"x\.at.*jnp\.where"),
    "fallback.vmap(lambda x: x.at[0].set(1.0))(numpy.ones((3, 2)))": ("AttributeError", r"x\.at.*jnp\.where"),
    "fallback.jit(lambda x: x.block_until_ready())(numpy.ones(3))": (
        "AttributeError",
        "block_until_ready.*leave it out",
    ),
}


def test_what_only_jax_offers_is_refused_by_name_with_the_remedy():
    printed = run_where_jax_fails(f"""
        import numpy
        from arraydiff import fallback
        for statement in {list(REFUSED)!r}:
            try:
                exec(statement)
            except Exception as error:
                print("ImportError" if isinstance(error, ImportError) else type(error).__mro__[-4].__name__, error)
            else:
                print("nothing raised")
    """)
    for line, (kind, message) in zip(printed.splitlines(), REFUSED.values(), strict=True):
        assert line.startswith(kind), line
        assert re.search(message, line), line


def test_a_broken_installation_of_jax_counts_as_missing_and_is_told_of():
    printed = run_where_jax_fails(
        """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            from arraydiff.fallback import JAX_AVAILABLE, JAX_IMPORT_ERROR, grad
        print(JAX_AVAILABLE, type(JAX_IMPORT_ERROR).__name__, *(w.category.__name__ for w in caught), caught[0].message)
        """,
        error="RuntimeError('jaxlib is too old')",
    )
    assert printed.startswith("False RuntimeError RuntimeWarning")
    assert "jaxlib is too old" in printed


def test_importing_arraydiff_alone_does_not_import_jax():
    script = "import sys, arraydiff; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


# where JAX is there


@needs_jax
def test_where_jax_is_installed_every_name_is_jaxs_own():
    import jax

    from arraydiff import fallback

    names = ("grad", "value_and_grad", "jacfwd", "jacrev", "hessian", "jvp", "vjp", "vmap", "jit")
    assert fallback.JAX_AVAILABLE
    assert fallback.JAX_IMPORT_ERROR is None
    assert all(getattr(fallback, name) is getattr(jax, name) for name in names)
    assert fallback.jnp is jax.numpy


@needs_jax
def test_what_is_not_offered_without_jax_is_not_offered_with_it():
    from arraydiff import fallback

    assert not hasattr(fallback, "lax")
    with pytest.raises(ImportError, match="import it from jax"):
        from arraydiff.fallback import lax  # noqa: F401


@needs_jax
@pytest.mark.parametrize(("ours", "theirs"), [("_plain_jit", "jit"), ("_plain_vmap", "vmap")])
def test_every_keyword_of_jaxs_own_is_accepted(ours, theirs):
    import jax

    from arraydiff import fallback

    wanted = inspect.signature(getattr(jax, theirs)).parameters
    assert set(wanted) <= set(inspect.signature(getattr(fallback, ours)).parameters)


# names


def test_a_name_that_nobody_has_is_refused_with_those_there_are(plain):
    with pytest.raises(AttributeError, match=r"no 'gard'.*grad"):
        _ = plain.gard
    with pytest.raises(AttributeError, match="no attribute '__path__'"):
        _ = plain.__path__


def test_all_that_is_listed_is_there(plain):
    assert all(hasattr(plain, name) for name in plain.__all__)


def test_jnp_without_jax_is_numpy(plain):
    assert plain.jnp.sin is np.sin
    assert plain.jnp.linalg is np.linalg
    assert "einsum" in dir(plain.jnp)
    with pytest.raises(AttributeError, match="needs JAX"):
        _ = plain.jnp.no_such_function


def test_an_attribute_that_the_users_own_object_lacks_is_no_matter_of_ours(plain):
    class Thing:
        pass

    with pytest.raises(AttributeError, match="Thing"):
        plain.jit(lambda x: Thing().at)(1.0)
    with pytest.raises(AttributeError, match="shpae"):
        plain.jit(lambda x: x.shpae)(np.ones(2))


def test_transforms_keep_the_name_of_the_function(plain):
    assert plain.grad(norm).__name__ == "norm"
    assert plain.jit(norm).__name__ == "norm"
    assert plain.vmap(norm).__name__ == "norm"
    assert plain.grad.__name__ == "grad"


def test_a_transform_of_what_is_not_callable_is_a_type_error(plain):
    for transform in (plain.grad, plain.hessian, plain.jacfwd, plain.jit, plain.vmap):
        with pytest.raises(TypeError):
            transform(3)


@pytest.mark.parametrize("wrap", [lambda plain, g: g, lambda plain, g: plain.jit(g)], ids=["bare", "jit"])
def test_a_derivative_of_a_derivative_is_right(plain, wrap):
    second = plain.grad(wrap(plain, plain.grad(lambda t: t**3)))
    assert second(2.0) == pytest.approx(12.0, rel=1e-8)


# jit


def power(x, n):
    return x**n


JIT_USES = {
    "called": lambda jit: jit(power, static_argnums=1),
    "decorator with arguments": lambda jit: jit(static_argnums=1)(power),
    "partial": lambda jit: functools.partial(jit, static_argnames="n")(power),
    "negative": lambda jit: jit(power, static_argnums=-1),
    "list": lambda jit: jit(power, static_argnums=[1]),
    "names": lambda jit: jit(power, static_argnames=("n",)),
    "donated": lambda jit: jit(power, donate_argnums=0),
    "flags": lambda jit: jit(power, keep_unused=True, inline=True, compiler_options={}),
    "shardings": lambda jit: jit(power, in_shardings=None, out_shardings=None),
}


@pytest.mark.parametrize("use", JIT_USES.values(), ids=JIT_USES)
def test_plain_jit_is_used_in_every_way_that_jaxs_is(plain, use):
    assert use(plain.jit)(np.array([1.0, 3.0]), 2).tolist() == [1.0, 9.0]


def test_plain_jit_decorates_methods(plain):
    class Model:
        scale = 3.0

        @plain.jit
        def __call__(self, x):
            return self.scale * x

        @functools.partial(plain.jit, static_argnums=0)
        def twice(self, x):
            return 2 * x

    assert Model()(2.0) == 6.0
    assert Model().twice(2.0) == 4.0


JIT_MISUSES = {
    "a static argument beyond the last": lambda jit: jit(power, static_argnums=5),
    "a static argument before the first": lambda jit: jit(power, static_argnums=-3),
    "a static argument by a string": lambda jit: jit(power, static_argnums="n"),
    "a static argument by a float": lambda jit: jit(power, static_argnums=1.0),
    "a static name that does not exist": lambda jit: jit(power, static_argnames="m"),
    "a static name that is a number": lambda jit: jit(power, static_argnames=3),
    "static and donated at once": lambda jit: jit(power, static_argnums=0, donate_argnums=0),
    "a donated argument beyond the last": lambda jit: jit(power, donate_argnums=9),
    "an unknown keyword": lambda jit: jit(power, static_argnum=1),
    "no function": lambda jit: jit(3),
    "a static list": lambda jit: jit(power, static_argnums=1)(2.0, [2]),
    "a static list by keyword": lambda jit: jit(power, static_argnums=1)(2.0, n=[2]),
    "a static list in a named place": lambda jit: jit(power, static_argnames="n")(2.0, [2]),
}


@needs_jax
@pytest.mark.parametrize("misuse", JIT_MISUSES.values(), ids=JIT_MISUSES)
def test_plain_jit_refuses_what_jaxs_refuses_with_the_same_type_of_error(plain, misuse):
    import jax

    with pytest.raises((TypeError, ValueError)) as theirs:
        misuse(jax.jit)
    with pytest.raises(theirs.type):
        misuse(plain.jit)


def test_plain_jit_refuses_a_device_together_with_a_backend(plain):
    with pytest.raises(ValueError, match="not both"):
        plain.jit(power, device="cpu:0", backend="cpu")


def test_plain_jit_takes_functions_without_a_signature(plain):
    assert plain.jit(max, static_argnums=1)(2, 3) == 3
    assert plain.jit(lambda *args: args[0], static_argnums=3)(1, 2, 3, 4) == 1
    assert plain.jit(lambda **kw: kw["a"], static_argnames="a")(a=1) == 1


def test_what_compiles_ahead_of_time_says_that_it_needs_jax(plain):
    jitted = plain.jit(power)
    assert jitted.clear_cache() is None
    assert "not compiled" in repr(jitted)
    for method in (jitted.lower, jitted.trace, jitted.eval_shape):
        with pytest.raises(NotImplementedError, match="needs JAX"):
            method(1.0, 2)


def test_plain_jit_of_a_module_level_function_can_be_pickled(plain, monkeypatch):
    inline = pickle.loads(pickle.dumps(plain.jit(power, static_argnums=1)))
    assert inline(3.0, 2) == 9.0
    decorated = plain.jit(power)
    by_parts = pickle.loads(pickle.dumps(plain.jit(functools.partial(power, n=2))))
    assert by_parts(3.0) == 9.0
    monkeypatch.setitem(globals(), "power", decorated)  # as @jit leaves it
    assert pickle.loads(pickle.dumps(decorated)) is decorated


# vmap

TABLE = np.arange(6.0).reshape(2, 3)
ROW = np.arange(3.0)
Pair = namedtuple("Pair", "left right")


def add(a, b):
    return a + b


VMAP_USES = {
    "one axis": lambda vmap: vmap(norm)(TABLE),
    "two arguments": lambda vmap: vmap(add)(TABLE, TABLE),
    "an argument whole": lambda vmap: vmap(add, in_axes=(0, None))(TABLE, ROW),
    "a list of axes": lambda vmap: vmap(add, in_axes=[0, None])(TABLE, ROW),
    "a negative axis": lambda vmap: vmap(add, in_axes=(-1, 0))(TABLE, ROW),
    "the axis put last": lambda vmap: vmap(lambda a: 2 * a, out_axes=-1)(TABLE),
    "the axis put second": lambda vmap: vmap(lambda a: 2 * a, out_axes=1)(TABLE),
    "several outputs": lambda vmap: vmap(lambda a: (2 * a, a.sum()), out_axes=(1, 0))(TABLE),
    "a dict of outputs": lambda vmap: vmap(lambda a: {"p": 2 * a, "q": a.sum()}, out_axes={"p": 1, "q": 0})(TABLE),
    "a dict of inputs": lambda vmap: vmap(lambda a: a["p"] * a["q"], in_axes=({"p": 0, "q": None},))(
        {"p": TABLE, "q": ROW}
    ),
    "a prefix above a dict": lambda vmap: vmap(lambda a, b: a["p"] + a["q"] + b, in_axes=(1, None))(
        {"p": TABLE, "q": TABLE}, 1.0
    ),
    "a named tuple": lambda vmap: vmap(lambda a: Pair(a.right, a.left))(Pair(TABLE, TABLE + 1)),
    "a list of arrays": lambda vmap: vmap(lambda a: a[0] + a[1])([ROW, ROW]),
    "a keyword argument": lambda vmap: vmap(add)(TABLE, b=TABLE),
    "no mapped argument, but a size": lambda vmap: vmap(add, in_axes=None, axis_size=4)(1.0, 2.0),
    "None among arguments": lambda vmap: vmap(lambda a, b: a, in_axes=(0, None))(TABLE, None),
    "None among outputs": lambda vmap: vmap(lambda a: (a, None))(TABLE),
    "a string handed over whole": lambda vmap: vmap(lambda a, b: a, in_axes=(0, None))(TABLE, "mode"),
    "a constant": lambda vmap: vmap(lambda a: 3.0)(TABLE),
    "no entry": lambda vmap: vmap(lambda a: a * 2)(np.zeros((0, 3))),
    "no entry, the axis put last": lambda vmap: vmap(lambda a: a * 2, out_axes=1)(np.zeros((0, 3))),
    "a map within a map": lambda vmap: vmap(vmap(lambda t: t**2))(TABLE),
}

VMAP_MISUSES = {
    "sizes that differ": lambda vmap: vmap(add)(TABLE, ROW),
    "sizes that differ by keyword": lambda vmap: vmap(add)(TABLE, b=ROW),
    "a size that differs": lambda vmap: vmap(norm, axis_size=4)(TABLE),
    "an axis by name": lambda vmap: vmap(add, in_axes="a")(TABLE, TABLE),
    "an axis that is a float": lambda vmap: vmap(add, in_axes=1.0)(TABLE, TABLE),
    "an axis that is a bool": lambda vmap: vmap(add, in_axes=True)(TABLE, TABLE),
    "a dict of axes above the arguments": lambda vmap: vmap(norm, in_axes={"p": 0})(TABLE),
    "too few axes": lambda vmap: vmap(add, in_axes=(0,))(TABLE, TABLE),
    "nothing mapped": lambda vmap: vmap(add, in_axes=None)(TABLE, TABLE),
    "an axis that is not there": lambda vmap: vmap(norm, in_axes=2)(TABLE),
    "a negative axis that is not there": lambda vmap: vmap(norm, in_axes=-3)(TABLE),
    "a scalar": lambda vmap: vmap(add)(TABLE, 1.0),
    "an output axis that is not there": lambda vmap: vmap(norm, out_axes=5)(TABLE),
    "an output axis by name": lambda vmap: vmap(norm, out_axes="a")(TABLE),
    "output axes of another structure": lambda vmap: vmap(lambda a: (a, a), out_axes=(0, 0, 0))(TABLE),
    "input axes of another structure": lambda vmap: vmap(norm, in_axes=({"p": 0},))({"p": TABLE, "q": TABLE}),
    "a mapped output said to be unmapped": lambda vmap: vmap(norm, out_axes=None)(TABLE),
    "a mapped string": lambda vmap: vmap(add)(TABLE, "mode"),
    "a string that comes out": lambda vmap: vmap(lambda a: "mode")(TABLE),
    "no arguments": lambda vmap: vmap(lambda: 1.0)(),
    "no function": lambda vmap: vmap(3),
}


@needs_jax
@pytest.mark.parametrize("use", VMAP_USES.values(), ids=VMAP_USES)
def test_plain_vmap_gives_what_jaxs_gives(plain, use):
    import jax

    ours, theirs = use(plain.vmap), use(jax.vmap)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for our, their in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert isinstance(our, np.ndarray)
        assert our.shape == their.shape
        np.testing.assert_allclose(our, their, rtol=1e-6)


@needs_jax
@pytest.mark.parametrize("misuse", VMAP_MISUSES.values(), ids=VMAP_MISUSES)
def test_plain_vmap_refuses_what_jaxs_refuses_with_the_same_type_of_error(plain, misuse):
    import jax

    with pytest.raises((TypeError, ValueError)) as theirs:
        misuse(jax.vmap)
    with pytest.raises(theirs.type, match="vmap"):
        misuse(plain.vmap)


def test_plain_vmap_of_unequal_sizes_names_each_axis(plain):
    with pytest.raises(ValueError, match=r"2 for axis 0 of args\[0\]; 3 for axis 0 of args\[1\]"):
        plain.vmap(add)(TABLE, ROW)


def test_plain_vmap_hands_out_copies(plain):
    def overwrite(a):
        a[:] = -1.0
        return a.sum()

    table = TABLE.copy()
    plain.vmap(overwrite)(table)
    assert (table == TABLE).all()


def test_plain_vmap_keeps_what_is_the_same_for_every_entry(plain):
    assert plain.vmap(lambda a: ROW, out_axes=None)(TABLE).tolist() == ROW.tolist()


def test_plain_vmap_refuses_outputs_that_differ_from_entry_to_entry(plain):
    with pytest.raises(ValueError, match="structure"):
        plain.vmap(lambda a: a if a[0] == 0.0 else (a, a))(TABLE)
    with pytest.raises(ValueError, match="shapes"):
        plain.vmap(lambda a: a if a[0] == 0.0 else a[:1])(TABLE)


def test_plain_vmap_of_a_gradient_is_the_gradient_of_every_row(plain):
    np.testing.assert_allclose(plain.vmap(plain.grad(norm))(TABLE), 2 * TABLE, rtol=1e-12)
