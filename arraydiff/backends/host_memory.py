"""How many bytes this process may still take from the host, as far as the system tells."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where control groups are mounted, of version 2 and, under ``memory``, of version 1."""

PROC = Path("/proc")


def free_memory() -> int | None:
    """Bytes: the least of what is available, what control groups leave, and RLIMIT_AS; None where nothing is known.

    Under overcommit NumPy is killed, not refused: who plans its memory must ask before.
    """
    known = [free for free in (_available(), _left_by_groups(), _left_by_limit()) if free is not None]
    return max(min(known), 0) if known else None


def memory_in_use() -> tuple[int, int] | None:
    """Bytes that this process holds now, and the most that it ever held; None where the system does not tell."""
    status = PROC / "self" / "status"  # getrusage tells of the parent too, if that was larger
    now, most = (_entry(status, name, 1024) for name in ("VmRSS:", "VmHWM:"))
    return None if now is None or most is None else (now, most)


def _available() -> int | None:
    return _entry(PROC / "meminfo", "MemAvailable:", 1024)


def _left_by_groups() -> int | None:
    """The least that the process's control group, and those around it, leave."""
    left = [
        free
        for line in _text(PROC / "self" / "cgroup").splitlines()
        if line.count(":") >= 2
        for free in _left_in(*line.split(":", 2)[1:])
    ]
    return min(left, default=None)


def _left_in(controllers: str, path: str) -> list[int]:
    version_2 = controllers == ""
    if not version_2 and "memory" not in controllers.split(","):
        return []
    top = CGROUPS if version_2 else CGROUPS / "memory"
    names = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    inside = top / path.lstrip("/")
    groups = [group for group in (inside, *inside.parents) if group == top or top in group.parents]
    return [free for group in groups if (free := _left_of_group(group, *names)) is not None]


def _left_of_group(group: Path, limit_name: str, usage_name: str) -> int | None:
    limit, usage = _text(group / limit_name).strip(), _text(group / usage_name).strip()
    if not (limit.isdecimal() and usage.isdecimal()):  # "max": no limit
        return None
    cached = _entry(group / "memory.stat", "inactive_file", 1) or 0  # files that the kernel drops when it needs room
    return int(limit) - max(int(usage) - cached, 0)


def _left_by_limit() -> int | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    size = _text(PROC / "self" / "statm").split()
    if limit == resource.RLIM_INFINITY or not size:
        return None
    return limit - int(size[0]) * resource.getpagesize()


def _entry(path: Path, name: str, unit: int) -> int | None:
    """The number behind `name` in a file of such lines."""
    for line in _text(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name:
            return int(words[1]) * unit
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
