"""What a benchmark's record says about where it was made."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

LIBRARIES = (
    "numpy",
    "onnxruntime",
    "pillow",
    "simplejpeg",
    "openvino",
    "nncf",
    "torch",
    "ray",
    "pyarrow",
)


def describe_machine() -> dict[str, object]:
    """Describe processor, cores, versions and date."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "reidkit": metadata.version("reidkit"),
        **{name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Name the processor, with the vector instructions that matter to inference."""
    text = Path("/proc/cpuinfo").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    known = [
        flag
        for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
        if flag in flags
    ]
    return f"{fields.get('model name', platform.processor())} ({', '.join(known)})"
