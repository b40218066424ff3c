"""The guide's tool as a Python interface: `InferSession`, over any model reidkit opens.

Names, parameters and their order mirror that interface, so that scripts written for it run here;
they are not this project's style. What it takes without a check and reidkit refuses is said at
`InferSession.infer`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reidkit.ascend.bench._settings import ShapeOptions
from reidkit.ascend.interface._sizes import Sizes
from reidkit.ascend.interface._tensors import Tensor, TensorDesc, fit_feed, read_files, take_feed
from reidkit.errors import AscendError
from reidkit.runtimes.sessions import Array

_LOGGER = logging.getLogger(__name__)

_open_sessions: weakref.WeakSet[InferSession] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Summary:
    """Milliseconds of every execution since the last reset, each of a loop counted."""

    exec_time_list: list[float]


class MemorySummary:
    """Milliseconds of every copy to a device and back in this process, since the last reset."""

    _sent: list[float] = []  # noqa: RUF012 - one list for the process is the interface
    _received: list[float] = []  # noqa: RUF012

    @staticmethod
    def get_H2D_time_list() -> list[float]:
        """Give the times of copies to a device."""
        return list(MemorySummary._sent)

    @staticmethod
    def get_D2H_time_list() -> list[float]:
        """Give the times of copies from a device."""
        return list(MemorySummary._received)

    get_h2d_time_list = get_H2D_time_list
    get_d2h_time_list = get_D2H_time_list

    @staticmethod
    def reset() -> None:
        """Forget all times."""
        MemorySummary._sent.clear()
        MemorySummary._received.clear()


class InferSession:
    """A model on a device, with the members of the guide's tool.

    `model_path` is an `.om`, an `.onnx` file or a model package. Each inference runs the model
    `loop` times and gives the outputs of the last. `acl_json_path`, the toolkit's own settings
    for profiling, is not used. `debug` logs what the model takes and gives.

    Raises:
        AscendError: no such file, or a kind of file that is no model.
        ReidkitError: what `open_model` raises.
    """

    def __init__(
        self,
        device_id: int,
        model_path: str | Path,
        acl_json_path: str | None = None,
        debug: bool = False,
        loop: int = 1,
    ) -> None:
        from reidkit.ascend._models import open_model

        self.set_loop_count(loop)
        if acl_json_path is not None:
            _LOGGER.warning("acl_json_path %s is not used", acl_json_path)
        self.device_id = device_id
        self._times: list[float] = []
        self._session = open_model(model_path, device=device_id)
        self._sizes = Sizes(self._session)
        _open_sessions.add(self)
        if debug:
            for descriptions in (self.get_inputs(), self.get_outputs()):
                for index, desc in enumerate(descriptions):
                    _LOGGER.info("#%d %s", index, desc)

    def get_inputs(self) -> list[TensorDesc]:
        """Describe what the model takes."""
        return self._sizes.describe_inputs()

    def get_outputs(self) -> list[TensorDesc]:
        """Describe what the model gives."""
        return self._sizes.describe_outputs()

    @property
    def outputs_names(self) -> list[str]:
        """The names of the outputs."""
        return [spec.name for spec in self._session.outputs]

    def set_loop_count(self, loop: int) -> None:
        """Set how often an inference runs the model.

        Raises:
            AscendError: not a whole number above 0.
        """
        if type(loop) is not int or loop < 1:
            raise AscendError(f"loop is {loop!r}, expected a whole number above 0")
        self._loop = loop

    def set_staticbatch(self) -> None:
        """Forget the sizes that were set: the arrays decide what the model leaves free."""
        self._sizes.forget()

    def set_dynamic_batchsize(self, batchsize: int) -> None:
        """Set the batch size.

        Raises:
            AscendError: the model's batch size is fixed, or this is none of its gears.
        """
        if batchsize < 1:
            raise AscendError(f"the dymBatch parameter is not correct: {batchsize}, expected 1 up")
        self._sizes.choose(ShapeOptions(batch=batchsize))

    def set_dynamic_hw(self, w: int, h: int) -> None:
        """Set height and width, in this order whatever the parameters' names say.

        Raises:
            AscendError: the model's height and width are fixed.
        """
        self._sizes.choose(ShapeOptions(image_size=f"{w},{h}"))

    def set_dynamic_dims(self, dym_dims: str) -> None:
        """Set all shapes, as in `name:1,600;name2:1,600`.

        Raises:
            AscendError: it does not say a shape for each input that the model could take.
        """
        self._sizes.choose(ShapeOptions(dims=dym_dims))

    def set_dynamic_shape(self, dym_shape: str) -> None:
        """Set all shapes; as `set_dynamic_dims`."""
        self._sizes.choose(ShapeOptions(shape=dym_shape))

    def set_custom_outsize(self, custom_sizes: Sequence[int]) -> None:
        """Check the number of the sizes in bytes; they are not needed: outputs grow as they must.

        Raises:
            AscendError: not one for each output.
        """
        self._sizes.check_outputs(custom_sizes)

    def infer(
        self,
        feeds: Sequence[object],
        mode: str = "static",
        custom_sizes: int | Sequence[int] = 100000,
        out_array: bool = True,
    ) -> list[Array] | list[Tensor]:
        """Run the model over one feed for each input, and give an array for each output.

        A feed is a numpy array or scalar, a torch tensor on the CPU, or a `Tensor`. Unlike the
        tool, which only compares numbers of bytes, this refuses arrays of another type or shape
        than the model's, but for flat ones with the input's content: of its type, or bytes.
        `mode` other than static sets the sizes from the arrays first.

        Raises:
            AscendError: a feed that cannot be taken, or does not fit; an unknown mode.
            EngineError: the engine failed.
        """
        arrays = [take_feed(feed) for feed in feeds]
        self._sizes.choose_for(mode, arrays, custom_sizes)
        return self.run(arrays, out_array=out_array)

    def run(self, feeds: Sequence[object], out_array: bool = False) -> list[Array] | list[Tensor]:
        """Run the model with the sizes as they were set; as `infer`."""
        inputs = self._session.inputs
        if len(feeds) != len(inputs):
            raise AscendError(f"the model has {len(inputs)} inputs, {len(feeds)} feeds were given")
        arrays = [
            fit_feed(take_feed(feed), index, spec, shape)
            for index, (feed, spec, shape) in enumerate(
                zip(feeds, inputs, self._sizes.shapes, strict=True)
            )
        ]
        for _ in range(self._loop):
            run = self._session.run(arrays)
            self._times.append(run.computed)
            MemorySummary._sent.append(run.sent)
            MemorySummary._received.append(run.received)
        return list(run.outputs) if out_array else [Tensor(output) for output in run.outputs]

    def infer_pipeline(
        self,
        feeds_list: Sequence[Sequence[object]],
        mode: str = "static",
        custom_sizes: int | Sequence[int] = 100000,
    ) -> list[list[Array]]:
        """Infer every list of feeds in turn."""
        return [list(self._infer(feeds, mode, custom_sizes)) for feeds in feeds_list]

    def infer_iteration(
        self,
        feeds: Sequence[object],
        in_out_list: Sequence[int] | None = None,
        iteration_times: int = 1,
        mode: str = "static",
        custom_sizes: int | Sequence[int] = 100000,
        mem_copy: bool = True,
    ) -> list[Array]:
        """Infer several times and feed outputs back; give the last outputs.

        `in_out_list` names for each input the output that becomes it, -1 to keep the feed; None
        keeps all. `mem_copy` means nothing here.

        Raises:
            AscendError: the list does not fit the model; fewer than one time.
        """
        inputs, outputs = len(self._session.inputs), len(self._session.outputs)
        links = [-1] * inputs if in_out_list is None else list(in_out_list)
        if len(links) != inputs or not all(-1 <= link < outputs for link in links):
            raise AscendError(
                f"in_out_list is {links}: expected for each of {inputs} inputs the number of one "
                f"of {outputs} outputs, or -1"
            )
        if iteration_times < 1:
            raise AscendError(f"iteration_times is {iteration_times}, expected 1 or more")
        made = self._infer(feeds, mode, custom_sizes)
        for _ in range(iteration_times - 1):
            feeds = [
                feed if link == -1 else made[link] for feed, link in zip(feeds, links, strict=True)
            ]
            made = self._infer(feeds, mode, custom_sizes)
        return made

    def create_tensor_from_fileslist(self, desc: TensorDesc, files: Sequence[str | Path]) -> Tensor:
        """Read `.npy` and `.bin` files, one after the other, into one tensor for an input."""
        return read_files(desc, files)

    def create_tensor_from_arrays_to_device(self, arrays: object) -> Tensor:
        """Make a tensor of an array; a run copies it to the device."""
        return Tensor(take_feed(arrays))

    @staticmethod
    def convert_tensors_to_host(tensors: Sequence[Tensor]) -> None:
        """Do nothing: they are there."""

    @staticmethod
    def convert_tensors_to_arrays(tensors: Sequence[Tensor]) -> list[Array]:
        """Give the tensors' arrays."""
        return [tensor.array for tensor in tensors]

    def summary(self) -> Summary:
        """Give the times of the executions since the last reset."""
        return Summary(list(self._times))

    def reset_summaryinfo(self) -> None:
        """Forget the times."""
        self._times.clear()

    sumary = summary
    reset_sumaryinfo = reset_summaryinfo

    def free_resource(self) -> None:
        """Give the engine's memory back; the session cannot be used afterwards."""
        self._session.close()

    @staticmethod
    def finalize() -> None:
        """Free every session of this process, as the tool does."""
        for session in list(_open_sessions):
            session.free_resource()

    def _infer(
        self, feeds: Sequence[object], mode: str, custom_sizes: int | Sequence[int]
    ) -> list[Array]:
        made = self.infer(feeds, mode, custom_sizes)
        return [take_feed(output) for output in made]
