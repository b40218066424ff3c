"""The compiler's error codes, and what to do about each, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator

CODE = re.compile(r"^(E[A-Z0-9]\d{4,5})", re.MULTILINE)
"""How the compiler starts the block of an error."""

_SHAPE_MISSING = re.compile(
    r"^E10001:.*?Value \[?-1\]? for parameter \[?(?P<name>[^\s\]]+)\]? is invalid"
    r"(?:.*? model's input is \[\S+:(?P<shape>[-0-9,]+)\])?",
    re.MULTILINE,
)
"""The classic: the exported network leaves its batch size open, and nobody says which.

The substitute's message shows the shape too.
"""

_EXAMPLE_SHAPE = (1, 3, 256, 128)

SOLUTIONS = {
    "E10001": "Give the parameter one of the values it takes.",
    "E10002": 'Write --input_shape as name:numbers, such as --input_shape="image:1,3,256,128".',
    "E10004": "Give the parameter a value.",
    "E10005": "Give the parameter true or false.",
    "E10006": "Give the parameter 1 or 0.",
    "E10007": "Add --framework=5, which is ONNX.",
    "E10008": "Add --weight, the file of a Caffe model's weights.",
    "E10009": (
        "Keep one of --dynamic_batch_size, --dynamic_image_size and --dynamic_dims, "
        "drop the others."
    ),
    "E10010": "Choose --log among null, debug, info, warning and error.",
    "E10011": "Use sizes above 0 in --input_shape; -1 leaves the batch size free.",
    "E10012": "Set the first size of --input_shape to -1 when --dynamic_batch_size is given.",
    "E10013": "Use a smaller number.",
    "E10014": "Give the parameter a whole number.",
    "E10015": "Give the parameter a number within its range.",
    "E10016": "Use the input's name as the model has it in --input_shape.",
    "E10017": "Name nodes that the model has.",
    "E10018": (
        "Set the first size of --input_shape to -1, and no other, for --dynamic_batch_size."
    ),
    "E10019": "Set height and width in --input_shape to -1 for --dynamic_image_size.",
    "E10020": 'Write --dynamic_image_size as "height,width;height,width".',
    "E10021": "Choose a shorter path for --output.",
    "E10022": "End --output with a file name, not with a folder.",
    "E10031": "Set the first size of --input_shape to -1 for --dynamic_batch_size.",
    "E10033": 'Write --dynamic_batch_size as whole numbers, such as "1,2,4,8".',
    "E10034": "Use AIPP or a float16 input, not both.",
    "E10035": "Give at least 2 sizes; a single one belongs into --input_shape.",
    "E10036": "Give at most 100 sizes.",
    "E10037": "Give every group of sizes the same number of values.",
    "E10038": "Use sizes from 1 to 2048.",
    "E10039": "Name each size once.",
    "E10040": "Set the sizes that are to change to -1 in --input_shape.",
    "E10041": "Check that --model is a whole ONNX file; export it again if it is not.",
    "E10042": 'Write --dynamic_dims as at most 100 groups, such as "1;4;8".',
    "E10045": "Give as many values in each group as --input_shape has sizes of -1.",
    "E10046": "Keep the number of groups and their total within the limits.",
    "E10047": "Drop one of the two parameters.",
    "E10048": "Use --input_shape with -1 for a free size.",
    "E10049": "Give as many sizes in --input_shape as the model's input has.",
    "E10054": "Add the parameter, with a value.",
    "E13000": "Check the path, and that this user may read it.",
    "E13001": "Check that the file exists, is whole, and that this user may read it.",
    "E13003": "Use a smaller file.",
    "E16005": "Export the ONNX file again with one opset version for each domain.",
    "E19010": (
        "The compiler has no parser for an operator of the model: export with another opset, "
        "11 for the guide's network."
    ),
    "E19999": "An error inside the compiler: look into its log with --log=debug.",
    "EZ9999": "An error inside the compiler: look into its log with --log=debug.",
    "E20001": (
        "An operator is not supported, or did not compile: look for a missing Python package of "
        "the compiler (decorator, attrs, psutil, scipy)."
    ),
    "EE1001": "Compile again for the chip that is there: reidkit ascend soc prints its name.",
}
"""What the compiler's documents and its users recommend, by code."""


def explain(text: str) -> Iterator[str]:
    """Give one line for each error code in a compiler's output, in the order of their first use."""
    for code in dict.fromkeys(CODE.findall(text)):
        yield f"{code}: {find_solution(code, text)}"


def find_solution(code: str, text: str) -> str:
    """Say what to do about an error code, `text` being the output that it stands in."""
    if code == "E10001" and (found := _SHAPE_MISSING.search(text)):
        return _fix_shape(found["name"], found["shape"])
    if code.startswith(("EZ", "EB", "E2")) and code not in SOLUTIONS:
        return SOLUTIONS["E20001"]
    return SOLUTIONS.get(code, _UNKNOWN)


def _fix_shape(name: str, shape: str | None) -> str:
    sizes = list(_EXAMPLE_SHAPE)
    if shape is not None:
        own = [int(size) for size in shape.split(",")]
        examples = sizes if len(own) == len(sizes) else [1] * len(own)
        sizes = [size if size > 0 else example for size, example in zip(own, examples, strict=True)]
    return (
        f'The model leaves a size of its input open: add --input_shape="{name}:'
        f'{",".join(map(str, sizes))}" (the first number is the batch size).'
    )


_UNKNOWN = "Look the code up in the compiler's documents, and into its log with --log=debug."
