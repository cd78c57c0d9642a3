"""Which core a process runs on, and how much of it the process used (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common import Failure

PROC = Path("/proc")


def two_cores() -> tuple[int, int]:
    """One core for the server that is measured, one for everything else. Raises Failure where there are not two."""
    if not hasattr(os, "sched_getaffinity"):
        raise Failure("This system cannot pin a process to a core: run the bench on Linux.")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failure("The bench needs two cores, one for the server and one for the load, but has one.")
    return cores[0], cores[1]


@contextmanager
def only_on(core: int | None) -> Iterator[None]:
    """Processes started inside run on this core alone, with all their threads; None changes nothing.

    A child inherits the affinity of the thread that starts it, from before its first instruction.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """CPU time, user and system, of a process and its living descendants. 0 when it has ended."""
    stats = {int(path.name): stat for path in proc.glob("[0-9]*") if (stat := _read(path / "stat"))}
    children: dict[int, list[int]] = {}
    for child, (parent, _) in stats.items():
        children.setdefault(parent, []).append(child)
    ticks, todo = 0, [pid]
    while todo:
        process = todo.pop()
        ticks += stats[process][1] if process in stats else 0
        todo += children.get(process, ())
    return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds(core: int, proc: Path = PROC) -> float:
    """Time that a core has worked for anyone, or was taken from this machine by its host, since the system started."""
    (line,) = [line for line in (proc / "stat").read_text().splitlines() if line.startswith(f"cpu{core} ")]
    user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])  # idle and iowait between
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _read(file: Path) -> tuple[int, int] | None:
    try:
        return parent_and_ticks(file.read_text(errors="replace"))
    except (OSError, ValueError, IndexError):  # it has just ended
        return None


def parent_and_ticks(stat: str) -> tuple[int, int]:
    """Parent's id and CPU ticks (utime + stime) out of /proc/PID/stat, proc(5). The name in it may hold anything."""
    fields = stat[stat.rindex(")") + 1 :].split()  # the third field, the state, is the first here
    return int(fields[1]), int(fields[11]) + int(fields[12])
