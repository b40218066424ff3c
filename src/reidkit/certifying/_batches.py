"""Does a picture's vector depend on the batch size, or on its company?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.certifying._certificate import BatchCheck, Check
from reidkit.models import Model, load_model
from reidkit.package import Inputs, Package
from reidkit.records import Progress
from reidkit.verifying import measure_cosines


def check_batches(
    compiled: Package, paths: Sequence[str], check: Check, progress: Progress | None = None
) -> tuple[BatchCheck, ...]:
    """Run crops at every batch size, each with one whole batch and a short one after it.

    What they are held against are the same pictures one by one. A file that takes one batch
    size only has them in half batches filled up with zeros: in other company, in other places.

    Raises:
        ImageError: a picture cannot be decoded.
        EngineError: the engine failed, such as for want of memory at a large batch.
    """
    setting, fixed = check.setting, compiled.spec.engine.batch
    sizes = check.batches if fixed is None else (fixed,)
    apart = 1 if fixed is None else max(1, fixed // 2)
    most = max(_count_pictures(size) for size in sizes)
    checks: list[BatchCheck] = []
    with load_model(compiled, device=setting.device, threads=setting.threads) as model:
        # A small data set's pictures come again, so that every batch size really runs.
        pictures = list(itertools.islice(itertools.cycle(paths), most))
        inputs = preprocess.load_batch(pictures, model.contract, takes=model.runtime.takes)
        right = _run_in(model, inputs, apart)
        for size in sizes:
            count = _count_pictures(size)
            cosines = measure_cosines(_run_in(model, inputs[:count], size), right[:count])
            last = count % size or size
            low = (float(cosines.min()), float(cosines[-last:].min()))
            checks.append(BatchCheck(size, count, last, *low))
            if progress is not None:
                progress(len(checks), len(sizes))
    return tuple(checks)


def _count_pictures(size: int) -> int:
    """Give how many pictures make a whole batch and a half one."""
    return size + (size + 1) // 2


def _run_in(model: Model, inputs: Inputs, size: int) -> NDArray[np.float32]:
    starts = range(0, len(inputs), size)
    return np.concatenate([model.embed(inputs[start : start + size]) for start in starts])
