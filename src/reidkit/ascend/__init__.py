"""The published guide for Ascend chips, step by step, on any machine.

Each step is thin: pictures are prepared by `preprocess`, networks exported by `exporting`,
compiled by `compiling`, run by `runtimes` and scored by `scoring`, as everywhere in reidkit.
What is here is the guide's own surface: its files, names, options, messages and tables.

    bins         pictures -> .bin files; manifests says which are there
    compiler     .onnx -> .om: atc and aoe; soc names the chip
    bench        the batch inference tool; interface its Python interface
    predictions  its outputs -> scores
    guide        all steps, streaming or with their files, and the two tables
"""

from __future__ import annotations
