"""The grammar of the compiler's command line, which is gflags'.

`--name=value` and `--name value`, with one dash or two, `_` and `-` in a name being the same; of
an option that is given twice the last one counts. `--` ends the options.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from reidkit.errors import AscendError

EMULATE = "emulate"
"""Our own option: 1 forces the substitute where the real compiler is present."""


def read_flags(arguments: Sequence[str], known: Collection[str]) -> dict[str, str]:
    """Give the value of each option, by its name with `_`, in the order they were first given.

    An empty value is the same as none, as for the compiler.

    Raises:
        AscendError: an option that is not known or lacks its value, or a word that is no option.
    """
    found: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if word == "--":
            if rest := next(words, None):
                raise _stray(rest)
            break
        if not word.startswith("-") or word == "-":
            raise _stray(word)
        name, equals, value = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if name not in known:
            raise AscendError(f"unknown command line flag '{name}'{_nearest(name, known)}")
        if not equals:
            following = next(words, None)
            if following is None:
                raise AscendError(f"flag '{name}' is missing its argument; write --{name}=VALUE")
            value = following
        found[name] = value
    return {name: value for name, value in found.items() if value}


def take_emulate(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Take our own `--emulate` out of the arguments: whether it is on, and the others unchanged.

    Raises:
        AscendError: its value is not 1 or 0.
    """
    emulate, rest = False, []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name != EMULATE:
            rest.append(word)
            continue
        value = value if equals else next(words, "")
        if value not in ("0", "1"):
            raise AscendError(f"--{EMULATE} is {value!r}, expected 1 or 0")
        emulate = value == "1"
    return emulate, rest


def _stray(word: str) -> AscendError:
    return AscendError(
        f"{word!r} is not an option: options start with --, and a value with a space in it needs "
        "quotes around it"
    )


def _nearest(name: str, known: Collection[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"; did you mean --{near[0]}?" if near else ""
