"""The command line: one file per command, each parses, makes its library call and prints.

The commands import the library inside their functions, so that `reidkit --help` loads nothing
heavy.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

import reidkit
from reidkit.cli import (
    ascend,
    benchmark,
    calibrate,
    certify,
    compile,
    data,
    demo,
    deploy,
    doctor,
    draw,
    embed,
    embeddings,
    evaluate,
    export,
    gallery,
    inspect,
    keys,
    package,
    score,
    search,
    serve,
    train,
    verify,
)
from reidkit.errors import ReidkitError

DONE, FAILED, INTERRUPTED = 0, 1, 130

_HAS_ITS_OWN_DEBUG = ["ascend", "bench"]
"""The command whose `--debug` takes a value, as that of the guide's tool does."""

_COMMANDS = (
    demo,
    deploy,
    draw,
    data,
    train,
    inspect,
    export,
    package,
    compile,
    verify,
    benchmark,
    certify,
    embed,
    evaluate,
    calibrate,
    score,
    embeddings,
    gallery,
    search,
    serve,
    keys,
    ascend,
    doctor,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(reidkit.__version__, message="reidkit %(version)s")
def reidkit_command() -> None:
    """Person re-identification: from a trained checkpoint to a deployed model, with proof.

    Exit codes: 0 done, 1 an error (in one line; --debug shows the traceback), 2 wrong usage,
    130 interrupted (what train, embed, score -o, deploy, guide, gallery add and gallery
    reembed had done is kept for the next run).
    """


for _module in _COMMANDS:
    reidkit_command.add_command(_module.command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:2] == _HAS_ITS_OWN_DEBUG:
        sys.exit(_run(arguments, debug=False))
    sys.exit(_run([a for a in arguments if a != "--debug"], debug="--debug" in arguments))


def _run(arguments: list[str], *, debug: bool) -> int:
    # reidkit refuses large pictures by its own limit; Pillow's remark on them is noise.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    with _noting_interruptions() as interruptions:
        try:
            reidkit_command.main(arguments, prog_name="reidkit", standalone_mode=False)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (KeyboardInterrupt, click.Abort):
            return _interrupted()
        except BrokenPipeError:
            # Whoever read our output went away: keep Python from complaining at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            if interruptions:  # a library being imported turned it into an error of its own
                return _interrupted()
            if not isinstance(error, (ReidkitError, OSError, MemoryError)):
                raise
            if debug:
                traceback.print_exc()
            return _failed(str(error) or type(error).__name__)
    return DONE


@contextmanager
def _noting_interruptions() -> Iterator[list[int]]:
    """Let SIGTERM interrupt like Ctrl-C, and note either in the list given."""
    seen: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    watched = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in watched]
    try:
        yield seen
    finally:
        for number, handler in zip(watched, before, strict=True):
            signal.signal(number, handler)


def _interrupted() -> int:
    click.echo(
        "reidkit: interrupted; train, embed, score -o, deploy, ascend guide, gallery add and "
        "gallery reembed go on when run again",
        err=True,
    )
    return INTERRUPTED


def _failed(message: str) -> int:
    click.echo(f"reidkit: {' '.join(message.split())}", err=True)
    return FAILED
