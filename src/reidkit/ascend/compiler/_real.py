"""The real compiler and tuner, where they are installed: found, run, and their errors explained."""

from __future__ import annotations

import codecs
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from reidkit.ascend.compiler._codes import explain
from reidkit.errors import AscendError

Write = Callable[[str], None]
"""Takes text as it comes, line ends included."""

INSIDE = "REIDKIT_INSIDE_ASCEND_TOOL"
"""Set for the real tool, so that a script of its name which calls reidkit does not call itself."""

_HOMES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")
_USUAL_HOMES = (
    "/usr/local/Ascend/ascend-toolkit/latest",
    "/usr/local/Ascend/latest",
    "~/Ascend/ascend-toolkit/latest",
    "~/Ascend/latest",
)
_FOLDERS = ("bin", "compiler/bin", "atc/bin", "tools/aoe/bin")


def find_tool(name: str, environment: Mapping[str, str] | None = None) -> Path | None:
    """Find `atc` or `aoe` on PATH or under the toolkit's usual folders; `None` where it is not."""
    environment = os.environ if environment is None else environment
    if INSIDE in environment:
        return None
    found = shutil.which(name, path=environment.get("PATH", ""))
    if found is not None:
        return Path(found)
    homes = [environment[home] for home in _HOMES if environment.get(home)]
    for home in (*homes, *_USUAL_HOMES):
        for folder in _FOLDERS:
            tool = Path(os.path.expanduser(home)) / folder / name  # noqa: PTH111 - does without a home
            if tool.is_file() and os.access(tool, os.X_OK):
                return tool
    return None


def run_tool(tool: Path, arguments: Sequence[str], *, write: Write, remark: Write) -> int:
    """Run a real tool with these arguments as they are, and give its exit code.

    `write` is given its output as it comes, standard error included; `remark` a line for each of
    its error codes that says what to do. A tool that a signal ended gives 128 and its number.

    Raises:
        AscendError: the tool cannot be started.
    """
    code, text = _run(tool, arguments, write)
    if code:
        for line in explain(text):
            remark(f"reidkit: {line}\n")
        if not any(os.environ.get(home) for home in _HOMES):
            remark(
                f"reidkit: {tool} failed; where it misses libraries, source the toolkit's "
                "set_env.sh first\n"
            )
    return code


def _run(tool: Path, arguments: Sequence[str], write: Write) -> tuple[int, str]:
    try:
        process = subprocess.Popen(
            [str(tool), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {INSIDE: "1"},
        )
    except OSError as error:
        raise AscendError(f"{tool} cannot be started: {error.strerror or error}") from error
    with process:
        try:
            text = _pass_on(process, write)
        except BaseException:
            process.terminate()
            raise
    code = process.returncode
    return (code if code >= 0 else 128 - code), text


def _pass_on(process: subprocess.Popen[bytes], write: Write) -> str:
    """Hand on what a process writes as it comes, not line by line, and give it all at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    parts: list[str] = []
    if process.stdout is not None:
        while data := os.read(process.stdout.fileno(), 2**16):
            parts.append(decoder.decode(data))
            write(parts[-1])
    return "".join(parts)
