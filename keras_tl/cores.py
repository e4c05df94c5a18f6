"""How many cores there are to use."""

import math
import os
from pathlib import Path

PROCESS_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """How many cores this process may use: by its affinity and by its control group (v2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min(cores or 1, _group_limit())))


def _group_limit() -> float:
    """Cores that this process's control groups allow; containers are limited this way."""
    try:
        own = PROCESS_GROUP.read_text().strip().rpartition("::/")[2]
    except OSError:
        return math.inf
    limit = math.inf
    for group in (GROUPS / own, *(GROUPS / own).parents):
        file = group / "cpu.max"
        quota, period = file.read_text().split() if file.is_file() else ("max", "")
        limit = min(limit, math.inf if quota == "max" else int(quota) / int(period))
    return limit
