"""What a transform was asked for, and the options of a derivative inside or outside of another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from arraydiff.arguments import Argnums
from arraydiff.config import DifferentiationConfig, DifferentiationMethod

OF_NO_VALUE: dict[str, Any] = {  # options that change none
    **dict.fromkeys(("workers", "n_workers", "store", "devices", "max_memory")),
    "use_parallel": False,
    "progress": False,
    "unreliable": "warn",
}


@dataclass(frozen=True)
class Options:
    """What a transform was asked for at decoration."""

    argnums: Argnums
    config: DifferentiationConfig
    has_aux: bool = False
    holomorphic: bool = False
    allow_int: bool = False
    full_output: bool = False
    out: Any = None  # an array of the user's that a bare Jacobian is written to
    f0: Any = None  # f(x), where the user knows it
    linear: Any = None  # paths of the parameters in which f is linear


DEFAULT = DifferentiationConfig()

OF_NO_ACCOUNT = {name: getattr(DEFAULT, name) for name in ("unreliable", "method", "verify_trace")}
"""To calls that go well by following f."""


def is_plain(options: Options) -> bool:
    """Whether nothing is asked for that takes more than f followed, and held to plain f."""
    config, given = options.config, (options.out, options.f0, options.linear)
    other = options.full_output or options.holomorphic or any(one is not None for one in given)
    return not other and (config is DEFAULT or (config.follows and replace(config, **OF_NO_ACCOUNT) == DEFAULT))


def config_of(config: DifferentiationConfig | None, options: dict[str, Any], caller: str) -> DifferentiationConfig:
    """The config of a call, its keyword options on top."""
    if config is not None and not isinstance(config, DifferentiationConfig):
        raise TypeError(f"config wants a DifferentiationConfig, got {type(config).__name__}; give options as keywords")
    return (config or DEFAULT).with_options(options, caller)


def inner_config(config: DifferentiationConfig) -> DifferentiationConfig:
    """The options of a derivative inside one of ours: workers, store and progress serve the outer, whose points take longer."""
    if config.workers is None and config.store is None and config.progress is False:
        return config
    return replace(config, workers=None, store=None, progress=False)


def outer_config(config: DifferentiationConfig) -> DifferentiationConfig:
    """The options of a derivative of a derivative of ours: imaginary part and devices are spent on the inner one."""
    spent = config.method is DifferentiationMethod.COMPLEX_STEP
    if not spent and config.devices is None:
        return config
    method = DifferentiationMethod.RICHARDSON if spent else config.method
    return replace(config, method=method, devices=None)
