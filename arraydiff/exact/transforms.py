"""Composites of Fourier transforms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from arraydiff.exact.reductions import array, only
from arraydiff.exact.trace import ops, prim

fft = SimpleNamespace()
"""As `ops`, of the namespace of that name."""


def _resized(x: Any, n: Any, axis: int) -> Any:
    if n is None or n == x.shape[axis]:
        return x
    if n < x.shape[axis]:
        return x[(*(slice(None),) * (axis % x.ndim), slice(0, n))]
    return ops.pad(x, [(0, n - s if i == axis % x.ndim else 0) for i, s in enumerate(x.shape)])


def _scaled(x: Any, n: int, norm: Any, inverse: bool) -> Any:
    """`x` as transformed with the library's default: 1/n on the way back."""
    power = {"backward": 0.0, None: 0.0, "ortho": 0.5, "forward": 1.0}[norm]
    return x if power == 0 else x * float(n) ** (power if inverse else -power)


def _transform(name: str) -> Any:
    def transformed(x: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
        only(x, out=out)
        x = _resized(array(x), n, axis)
        return _scaled(getattr(prim, name)(x, axis=axis), x.shape[axis], norm, name == "ifft")

    return transformed


fft.fft, fft.ifft = _transform("fft"), _transform("ifft")


def _rfft(x: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    full = fft.fft(x, n, axis, norm, out)
    return full[(*(slice(None),) * (axis % full.ndim), slice(0, full.shape[axis] // 2 + 1))]


def _irfft(x: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    only(x, out=out)
    n = 2 * (x.shape[axis] - 1) if n is None else n
    x, pre = _resized(x, n // 2 + 1, axis), (slice(None),) * (axis % x.ndim)
    first = x[(*pre, slice(0, 1))]
    ends = [ops.real(first) + 0j, x[(*pre, slice(1, (n + 1) // 2))]]
    middle = [ops.real(x[(*pre, slice(n // 2, n // 2 + 1))]) + 0j] if n % 2 == 0 else []
    mirrored = ops.conj(ops.flip(ends[1], axis))
    return ops.real(fft.ifft(ops.concat([*ends, *middle, mirrored], axis), None, axis, norm))


def _hfft(x: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    return _irfft(ops.conj(x), n, axis, TURNED[norm], out)


def _ihfft(x: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    return ops.conj(_rfft(x, n, axis, TURNED[norm], out))


TURNED = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
"""How the transform on the other way is scaled."""


def _over_axes(last: Any, default: Any, others: Any = None, *, backwards: bool = False) -> Any:
    """`last` of the last axis, before `others` of the others; on the way back, after them."""

    def transformed(x: Any, s: Any = None, axes: Any = default, norm: Any = None, out: Any = None) -> Any:
        only(x, out=out)
        if axes is None:
            axes = range(x.ndim) if s is None else range(-len(s), 0)
        sizes = (None,) * len(axes) if s is None else s
        plan = list(zip([*[others or last] * (len(axes) - 1), last], axes, sizes, strict=True))
        for one, axis, n in plan if backwards else reversed(plan):
            x = one(x, n, axis, norm)
        return x

    return transformed


def _shifted(sign: int) -> Any:
    def shifted(x: Any, axes: Any = None) -> Any:
        axes = tuple(range(x.ndim)) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
        return ops.roll(x, tuple(sign * (x.shape[a] // 2) for a in axes), axes)

    return shifted


vars(fft).update(
    rfft=_rfft, irfft=_irfft, hfft=_hfft, ihfft=_ihfft,
    fft2=_over_axes(fft.fft, (-2, -1)), ifft2=_over_axes(fft.ifft, (-2, -1)),
    fftn=_over_axes(fft.fft, None), ifftn=_over_axes(fft.ifft, None),
    rfft2=_over_axes(_rfft, (-2, -1), fft.fft), irfft2=_over_axes(_irfft, (-2, -1), fft.ifft, backwards=True),
    rfftn=_over_axes(_rfft, None, fft.fft), irfftn=_over_axes(_irfft, None, fft.ifft, backwards=True),
    fftshift=_shifted(1), ifftshift=_shifted(-1),
)  # fmt: skip
