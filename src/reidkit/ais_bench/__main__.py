"""Run `reidkit ascend bench` with the arguments of `python -m ais_bench`."""

from __future__ import annotations

import sys

from reidkit.cli import main

if __name__ == "__main__":
    main(["ascend", "bench", *sys.argv[1:]])
