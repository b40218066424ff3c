"""The published guide for Ascend chips, step by step, on any machine.

Each step is thin: pictures are prepared by `preprocess`, networks exported by `exporting`,
compiled by `compiling`, run by `runtimes` and scored by `scoring`, as everywhere in reidkit.
What is here is the guide's own surface: its files, names, options, messages and tables.
"""

from __future__ import annotations
