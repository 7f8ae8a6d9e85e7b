"""What this machine has: cores and memory within the limits of a container, and folders that can be written to."""

import ctypes
import os
import re
import resource
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seedcli.base.errors import ConfigError
from seedcli.base.files import visible_files

GIB = 2**30


def cores() -> int:
    """Those that this process may use, by its affinity and by the quota of its container."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = (text.split() for text in control_files("cpu.max"))
    return min([usable, *(max(1, int(share) // int(period)) for share, period in quotas if share != "max")])


def processes() -> int:
    """How many torchrun started."""
    return int(os.environ.get("WORLD_SIZE", 1))


def memory() -> tuple[int, int]:
    """Bytes of memory, and those still available, within the limits of the container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told_by = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", told_by.read_text() if told_by.exists() else "", re.MULTILINE)
    limits = [*control_files("memory.max"), *control_files("memory.limit_in_bytes")]
    total = min([total, *(int(limit) for limit in limits if limit.isdigit())])
    return total, min(total, int(found[1]) * 1024) if found else total


def resident() -> int:
    """Bytes of memory that this process holds now; where the system doesn't tell, the most it has held."""
    told_by = Path("/proc/self/statm")
    if told_by.exists():
        return int(told_by.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def give_back_memory() -> None:
    """Let the system have what was freed: glibc would keep some hundred megabytes of it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16."""
    told_by = Path("/proc/cpuinfo")
    flags = re.search(r"^flags\s*:(.*)", told_by.read_text() if told_by.exists() else "", re.MULTILINE)
    return bool(flags and {"amx_bf16", "avx512_bf16"} & set(flags[1].split()))


class Used(NamedTuple):
    """What a process took: seconds of all its threads, and the most memory that it held, in bytes."""

    seconds: float
    peak: int

    def __str__(self) -> str:
        return f"{self.seconds:,.0f} s of CPU, at most {size(self.peak)}"


def used() -> Used:
    """What this process took until now, the memory since it runs this program."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    told_by = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", told_by.read_text() if told_by.exists() else "", re.MULTILINE)
    return Used(own.ru_utime + own.ru_stime, int(found[1] if found else own.ru_maxrss) * 1024)


def control_files(name: str) -> Iterator[str]:
    """The contents of a file of this process's control groups (cgroups, both versions) and of those around them."""
    groups = Path("/proc/self/cgroup")
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, controllers, group = line.split(":", 2)
        place = Path("/sys/fs/cgroup", controllers, group.lstrip("/"))
        for folder in (place, *place.parents):
            if (folder / name).is_file():
                yield (folder / name).read_text().strip()


def writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=existing(folder)):
            return True
    except OSError:
        return False


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110  (raises nothing)


def bytes_in(folder: Path) -> int:
    count = 0
    for path in visible_files(folder):
        with suppress(FileNotFoundError):  # another command has just removed it
            count += path.stat().st_size
    return count


def bytes_of(flag: str, text: str) -> int:
    """Bytes of a size such as 512m or 2g. Raises ConfigError, which names the flag, for anything else."""
    found = re.fullmatch(r"([1-9]\d*)([kmg])", text.lower())
    if not found:
        raise ConfigError(f"{flag} {text}: expected a number with k, m or g, such as 2g")
    return int(found[1]) << {"k": 10, "m": 20, "g": 30}[found[2]]


def size(count: float) -> str:
    """Bytes as a person says them."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while count >= 1024 and len(units) > 1:
        count, units = count / 1024, units[1:]
    return f"{count:.0f} {units[0]}" if units[0] == "bytes" or count >= 100 else f"{count:.1f} {units[0]}"
