"""No hidden transfer: the host waits for the device in `Backend.read` alone, as often as docs/how-it-works.md says.

One read after f(x), one a stage, one at the end; where f is followed, its value, what plain f says of it and of its derivative,
and what is to be mended. The functions are counted on the stand-in for CuPy, inside `no_sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import optree
import pytest

import arraydiff as ad
from arraydiff import record
from arraydiff.backends.cupy import CupyBackend
from tests.cupy_standin import machine, no_sync
from tests.helpers import Backend

pytestmark = pytest.mark.parametrize("backend", [Backend.CUPY], ids=["cupy-standin"], indirect=True)

POINT = np.array([0.3, -1.0, 2.0, 0.7, 1.1])

Transforms = dict[str, Callable[..., Any]]
TRANSFORMS: Transforms = {
    "grad": lambda xp, x, **o: ad.grad(scalar(xp), **o)(x),
    "value_and_grad": lambda xp, x, **o: ad.value_and_grad(scalar(xp), **o)(x),
    "jacobian": lambda xp, x, **o: ad.jacobian(vector(xp), **o)(x),
    "derivative": lambda xp, x, **o: ad.derivative(xp.exp, **o)(x),
    "jvp": lambda xp, x, **o: ad.jvp(vector(xp), (x,), (x,), **o),
    "vjp": lambda xp, x, **o: ad.vjp(vector(xp), x, **o)[1](x),
    "hessian": lambda xp, x, **o: ad.hessian(scalar(xp), **o)(x),
}

# After f(x), after each stage, at the end. A Hessian by fixed steps has the reads of a gradient at each of its points, too.
WIDE = {"error_tolerance": 1e9}  # bars of stencils of stencils: what is doubtful costs one more read, to say why
READS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "central": ({"method": "central", **WIDE}, (3, 3, 3, 3, 3, 3, 33)),
    "central-8": ({"method": "central", "order": 8, **WIDE}, (3, 3, 3, 3, 3, 3, 93)),
    "forward": ({"method": "forward", **WIDE}, (2, 2, 2, 2, 2, 2, 12)),
    "backward": ({"method": "backward", **WIDE}, (2, 2, 2, 2, 2, 2, 12)),
    "fixed-ladder": ({"method": "richardson", "relative_step": 1e-2}, (2, 2, 2, 2, 2, 2, 43)),
    "richardson": ({"method": "richardson"}, (5, 5, 5, 5, 6, 5, 6)),
    "complex-step": ({"method": "complex_step"}, (3, 3, 3, 3, 4, 3, 9)),
    "untraced": ({"trace": False}, (3, 3, 3, 3, 4, 3, 9)),
    "adaptive": ({}, (3, 3, 4, 4, 4, 3, 5)),
    "exact": ({"method": "exact"}, (3, 3, 4, 4, 4, 3, 5)),
}


def vector(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.exp(x / 4) * x[0]


def scalar(xp: Any) -> Callable[[Any], Any]:
    return lambda x: xp.sum(xp.exp(x / 4) * x[0])


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of what is read; whatever else makes the host wait raises."""
    seen: list[int] = []
    plain = CupyBackend.read

    def counted(self: CupyBackend, codes: Any) -> list[int]:
        seen.append(int(codes.shape[0]))
        machine.forbid_sync = False
        try:
            return plain(self, codes)
        finally:
            machine.forbid_sync = True

    monkeypatch.setattr(CupyBackend, "read", counted)
    with no_sync():
        yield seen


@pytest.mark.parametrize("name", READS)
def test_a_derivative_reads_the_device_as_often_as_is_promised(name: str, backend: Backend, reads: list[int]) -> None:
    options, promised = READS[name]
    counted = {}
    for transform, call in TRANSFORMS.items():
        reads.clear()
        call(backend.module, backend.asarray(POINT), **options)
        counted[transform] = len(reads)
    assert counted == dict(zip(TRANSFORMS, promised, strict=True))


@pytest.mark.parametrize(
    ("options", "promised"),
    [
        ({"method": "central", "unreliable": "ignore"}, 2),  # nothing to warn of: no read at the end
        ({"method": "central", "chunk_size": 2}, 5),  # three chunks, three stages
        ({"method": "central", "bounds": (-9.0, 9.0)}, 5),  # x inside them, and the room of each parameter
        ({"method": "richardson", "bounds": (-9.0, 9.0)}, 7),
    ],
)
def test_bounds_and_chunks_add_their_own_reads(
    options: dict[str, Any], promised: int, backend: Backend, reads: list[int]
) -> None:
    ad.grad(scalar(backend.module), **options)(backend.asarray(POINT))
    assert len(reads) == promised


def test_what_is_read_is_small(backend: Backend, reads: list[int]) -> None:
    for options, _ in READS.values():
        ad.jacobian(vector(backend.module), **options)(backend.asarray(POINT))
    assert max(reads) <= 7  # counts of the probe or the certificate, or one code a line


def test_doubtful_entries_cost_one_read_more(backend: Backend, reads: list[int]) -> None:
    xp = backend.module
    with pytest.warns(ad.DifferentiationWarning):
        ad.grad(lambda x: xp.sum(xp.sin(1e7 * x)), method="forward")(backend.asarray(POINT))
    assert len(reads) == 3


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_result_is_read_no_more_often_than_bare_values(transform: str, backend: Backend, reads: list[int]) -> None:
    call, x = TRANSFORMS[transform], backend.asarray(POINT)
    counted = []
    for full_output in (False, True):
        reads.clear()
        call(backend.module, x, method="central", full_output=full_output, **WIDE)
        counted.append(len(reads))
    assert counted[0] == counted[1]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_bars_and_flags_of_what_is_followed_are_read_once(
    transform: str, backend: Backend, reads: list[int]
) -> None:
    call, x = TRANSFORMS[transform], backend.asarray(POINT)
    call(backend.module, x, method="exact", full_output=True)
    assert len(reads) == READS["exact"][1][list(TRANSFORMS).index(transform)] + (transform != "hessian")


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_results_are_made_on_the_device_of_x_also_when_another_one_is_current(
    transform: str, name: str, backend: Backend
) -> None:
    xp, (options, _) = backend.module, READS[name]
    with xp.cuda.Device(1):
        x = xp.asarray(POINT)
    with record() as total:
        made = TRANSFORMS[transform](xp, x, **options, full_output=True)
    results = made if isinstance(made, tuple) else (made,)
    assert total.derivatives == 1
    for item in fields(results[0]):
        for value in optree.tree_leaves(getattr(results[0], item.name)):
            assert not isinstance(value, xp.ndarray) or value.device.id == 1, (
                f"{item.name} is on device {value.device.id}"
            )
    assert results[0].derivative is not None


def test_threads_bring_no_point_to_the_host(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("a point came to the host")

    monkeypatch.setattr(CupyBackend, "as_numpy", refused)
    x = backend.asarray(np.linspace(0.3, 1.7, 5))
    with ThreadPoolExecutor(2) as pool:
        for vectorized in (False, True):
            ad.grad(lambda p: (p * p).sum(axis=0), workers=pool, vectorized=vectorized, method="central")(x)
