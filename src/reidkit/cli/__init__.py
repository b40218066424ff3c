"""The command line: one file per command, each parses, makes its library call and prints.

The commands import the library inside their functions, so that `reidkit --help` loads nothing
heavy.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

import reidkit
from reidkit.cli.demo import demo
from reidkit.cli.doctor import doctor
from reidkit.cli.draw import draw
from reidkit.cli.embed import embed
from reidkit.cli.embeddings import embeddings
from reidkit.cli.evaluate import evaluate
from reidkit.cli.export import export
from reidkit.cli.inspect import inspect
from reidkit.cli.package import package
from reidkit.cli.score import score
from reidkit.errors import ReidkitError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(reidkit.__version__, message="reidkit %(version)s")
def reidkit_command() -> None:
    """Person re-identification: from a trained checkpoint to a deployed model, with proof.

    Exit codes: 0 done, 1 an error (in one line; --debug shows the traceback), 2 wrong usage,
    130 interrupted (what is on disk can be resumed).
    """


for _command in (
    demo,
    draw,
    inspect,
    export,
    package,
    embed,
    evaluate,
    score,
    embeddings,
    doctor,
):
    reidkit_command.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.exit(_run([a for a in arguments if a != "--debug"], debug="--debug" in arguments))


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        result = reidkit_command.main(arguments, prog_name="reidkit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted; what is on disk can be resumed by the same command")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output went away: keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ReidkitError, OSError) as error:
        if debug:
            traceback.print_exc()
        _complain(" ".join(str(error).split("\n")))
        return FAILED
    return result if isinstance(result, int) else DONE


def _complain(message: str) -> None:
    click.echo(f"reidkit: {message}", err=True)
