"""Scores between two sets of vectors, exact and in bounded memory: blocks, never the whole matrix.

A `Comparison` is the seam: `scoring` ranks by whatever scores it gives. Here are the two that
compare vectors as they are; `reranking` has another one.
"""

from reidkit.comparing._blocks import (
    METRICS,
    Comparison,
    VectorComparison,
    choose_comparison,
    find_nearest,
    multiply_blocks,
)
from reidkit.comparing._devices import CPU, check_device
from reidkit.comparing._neighbours import (
    Neighbours,
    find_neighbours,
    find_neighbours_of,
    join_neighbours,
)
from reidkit.comparing._ordering import Ordered, count_rows, number_descending, order_rows
from reidkit.comparing._prepared import Moments, Prepared, prepare, to_unit_length
from reidkit.comparing._rows import (
    MEMORY,
    Joined,
    Rows,
    check_memory,
    list_ranges,
    measure_squares,
    one_thread,
    split_range,
    spread,
)

__all__ = [
    "CPU",
    "MEMORY",
    "METRICS",
    "Comparison",
    "Joined",
    "Moments",
    "Neighbours",
    "Ordered",
    "Prepared",
    "Rows",
    "VectorComparison",
    "check_device",
    "check_memory",
    "choose_comparison",
    "count_rows",
    "find_nearest",
    "find_neighbours",
    "find_neighbours_of",
    "join_neighbours",
    "list_ranges",
    "measure_squares",
    "multiply_blocks",
    "number_descending",
    "one_thread",
    "order_rows",
    "prepare",
    "split_range",
    "spread",
    "to_unit_length",
]
