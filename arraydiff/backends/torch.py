"""PyTorch: f sees detached tensors, else its graph grows with every point."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import array_api_compat
import numpy as np
from optree import tree_flatten

from arraydiff._typing import Array, PyTree
from arraydiff.backends.base import Backend, OwnTape

CPU_ALLOCATOR = ("not enough memory", "can't allocate memory")
"""What its errors say, on one system or the other."""


@dataclass(frozen=True)
class TorchTape(OwnTape):
    """What torch.func recorded; J·v is the derivative of uᵀ·J with respect to u, so that f is called once."""

    value: Array
    pull: Callable[[Array], tuple[Array]]

    def pullback(self, cotangent: Array, *, keep: bool = False) -> Array:
        """uᵀ·J."""
        return self.pull(cotangent)[0].detach()

    @cached_property
    def _push(self) -> Callable[[Array], tuple[Array]]:
        import torch

        pushed: Callable[[Array], tuple[Array]] = torch.func.vjp(
            lambda u: self.pull(u)[0], torch.zeros_like(self.value)
        )[1]
        return pushed

    def pushforward(self, tangent: Array) -> Array:
        """J·v."""
        return self._push(tangent)[0].detach()


@dataclass(frozen=True)
class TorchBackend(Backend):
    """Tensors of PyTorch."""

    @classmethod
    def owns(cls, array: Array) -> bool:
        return bool(array_api_compat.is_torch_array(array))

    @cached_property
    def on_cpu(self) -> bool:
        return bool(self.device.type == "cpu")

    def asarray(self, value: Any, dtype: Any = None, *, copy: bool | None = None) -> Array:
        if isinstance(value, np.ndarray | np.generic):
            value = np.array(value)  # a copy: torch warns of arrays that cannot be written
        if dtype is None and isinstance(value, float):
            dtype = self.xp.float64  # torch's own default is float32
        if self.owns(value):
            value = value.detach()  # torch warns of a tensor that requires a gradient
        return self.xp.asarray(value, dtype=dtype, device=self.device, copy=copy)

    def during(self, fixed_stages: bool, arguments: PyTree) -> Backend:
        import torch

        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        if any(isinstance(leaf, torch.Tensor) and wrapped(leaf) for leaf in tree_flatten(arguments)[0]):
            raise ValueError(  # its derivatives would be 0 in silence: what f gives has no history
                "inside torch.func there are no values to work with: pass in_axes=0 for a batch of points, nest derivatives of "
                "this package, as in grad(grad(f)), or take torch.func.grad of f itself"
            )
        return self

    def copy(self, array: Array) -> Array:
        return array.clone()

    def detached(self, array: Array) -> Array:
        return array.detach()

    def read(self, codes: Array) -> list[int]:
        return list(codes.tolist())

    def on_device(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        no_grad: contextlib.AbstractContextManager[Any] = torch.no_grad()
        return no_grad

    def recorded(self, function: Callable[[Array], Any], x: Array) -> Any:
        import torch

        value, pull = torch.func.vjp(function, self.copy(x))
        return TorchTape(value.detach(), pull)

    def vmapped(self, function: Callable[[Array], Any]) -> Callable[[Array], Any] | None:
        import torch

        mapped: Callable[[Array], Any] = torch.func.vmap(function, in_dims=-1)
        return mapped

    def synchronize(self, *arrays: Array) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def free_memory(self) -> int | None:
        import torch

        if self.device.type == "cpu":
            return super().free_memory()
        if self.device.type != "cuda":
            return None
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(torch.cuda.mem_get_info(self.device)[0]) + int(kept)

    def memory_in_use(self) -> tuple[int, int] | None:
        import torch

        if self.device.type == "cpu":
            return super().memory_in_use()
        if self.device.type != "cuda":
            return None
        return int(torch.cuda.memory_allocated(self.device)), int(torch.cuda.max_memory_allocated(self.device))

    def as_numpy(self, array: Array) -> np.ndarray:
        copied: np.ndarray = array.detach().cpu().numpy()
        return copied

    def is_out_of_memory(self, error: BaseException) -> bool:
        import torch

        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        # the allocator of the CPU has no class of its own
        return type(error) is RuntimeError and any(words in str(error) for words in CPU_ALLOCATOR)
