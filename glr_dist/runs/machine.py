"""The machine that a run's driver is on, for those who read its figures later."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any

import torch


def this_machine() -> dict[str, Any]:
    """Host, operating system, CPU and cores, GPUs, as JSON values."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(number) for number in gpus],
    }


def _cpu() -> str:
    """Its name, where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  Linux's own
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
