"""The sizes that are set where an `InferSession`'s model leaves them free."""

from __future__ import annotations

from collections.abc import Sequence

from reidkit.ascend.bench._settings import ShapeOptions
from reidkit.ascend.bench._shapes import choose_shapes
from reidkit.ascend.interface._tensors import TensorDesc, describe_tensor
from reidkit.errors import AscendError
from reidkit.runtimes.sessions import Array, Session, TensorSpec

MODES = ("static", "dymbatch", "dymhw", "dymdims", "dymshape")
"""What is set from the arrays of an inference before it runs; also written dynbatch, dynhw, ..."""


class Sizes:
    """The shapes of a session's inputs, set once for the inferences that follow."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.forget()

    def forget(self) -> None:
        """Leave free what the model leaves free: the arrays decide."""
        self.shapes = tuple(spec.shape for spec in self._session.inputs)

    def choose(self, options: ShapeOptions) -> None:
        """Set the sizes that the options give.

        Raises:
            AscendError: the model does not take them.
        """
        self.shapes = choose_shapes(self._session, options)

    def choose_for(
        self, mode: str, arrays: Sequence[Array], custom_sizes: int | Sequence[int]
    ) -> None:
        """Set the sizes that a mode takes from the arrays of an inference.

        Raises:
            AscendError: no such mode, or the model does not take the sizes.
        """
        kind = mode.replace("dyn", "dym", 1)
        if kind not in MODES:
            raise AscendError(f"mode is {mode!r}, expected one of {', '.join(MODES)}")
        if kind == "static":
            self.forget()
        elif kind == "dymbatch":
            (batch,) = _sizes(arrays, 0, 1)
            self.choose(ShapeOptions(batch=batch))
        elif kind == "dymhw":
            self.choose(ShapeOptions(image_size=",".join(map(str, _sizes(arrays, 2, 4)))))
        elif kind == "dymdims":
            self.choose(ShapeOptions(dims=self._word(arrays)))
        else:
            self.choose(ShapeOptions(shape=self._word(arrays)))
            if not isinstance(custom_sizes, int):
                self.check_outputs(custom_sizes)

    def check_outputs(self, custom_sizes: Sequence[int]) -> None:
        """Refuse sizes in bytes that are not one for each output."""
        count = len(self._session.outputs)
        if len(custom_sizes) != count:
            raise AscendError(
                f"om has {count} output, but outputSize parametet give {len(custom_sizes)}"
            )

    def describe_inputs(self) -> list[TensorDesc]:
        """Describe what the model takes."""
        pairs = zip(self._session.inputs, self.shapes, strict=True)
        return [self._describe(spec, shape) for spec, shape in pairs]

    def describe_outputs(self) -> list[TensorDesc]:
        """Describe what the model gives; a free first size is that of the inputs."""
        batches = {shape[0] for shape in self.shapes if shape}
        batch = batches.pop() if len(batches) == 1 else -1
        return [
            self._describe(spec, (batch, *spec.shape[1:]) if _free_batch(spec) else spec.shape)
            for spec in self._session.outputs
        ]

    def _describe(self, spec: TensorSpec, shape: tuple[int, ...]) -> TensorDesc:
        gears = self._session.batch_gears
        largest = (max(gears), *spec.shape[1:]) if gears and _free_batch(spec) else spec.shape
        return describe_tensor(spec, shape, largest)

    def _word(self, arrays: Sequence[Array]) -> str:
        # Another number of arrays than of inputs is found by `choose`.
        return ";".join(
            f"{spec.name}:{','.join(map(str, array.shape))}"
            for spec, array in zip(self._session.inputs, arrays, strict=False)
        )


def _free_batch(spec: TensorSpec) -> bool:
    return spec.shape[:1] == (-1,)


def _sizes(arrays: Sequence[Array], start: int, end: int) -> tuple[int, ...]:
    if not arrays or arrays[0].ndim < end:
        shape = arrays[0].shape if arrays else "no array"
        raise AscendError(f"the first array, {shape}, has no axes {start} to {end - 1}")
    return arrays[0].shape[start:end]
