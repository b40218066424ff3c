"""The format that torch wrote before version 1.6, and still writes when asked to.

Five pickles and the raw storages, one behind the other: a magic number, the protocol's number,
facts about the writing machine, the content, the list of storage keys; then, in the order of
that list, each storage as its number of elements (int64) and its bytes. Always little-endian.
"""

from __future__ import annotations

from io import BytesIO

from reidkit.checkpoints._machine import interpret
from reidkit.checkpoints._values import Archive, Storage, element_size
from reidkit.errors import CheckpointError

MAGIC = 0x1950A86A20F9469CFC6C
TEXT_START = b"L%dL\n." % MAGIC
"""How a legacy checkpoint of pickle protocol 0 or 1 starts."""

PROTOCOL = 1001


def read_pickles(data: bytes) -> Archive:
    """Take a legacy checkpoint apart; its storages are views on `data`.

    Raises:
        CheckpointError: truncated, damaged, or a pickle that torch did not write.
        UnsafeCheckpointError: it would run code.
    """
    file = BytesIO(data)
    magic, _ = interpret(file)
    if not isinstance(magic, int) or magic != MAGIC:
        raise CheckpointError(
            "is a bare pickle that torch.save did not write: save the network's state dict with "
            "torch.save(model.state_dict(), path)"
        )
    protocol, _ = interpret(file)
    if not isinstance(protocol, int) or protocol != PROTOCOL:
        raise CheckpointError(
            f"is a legacy torch checkpoint of an unknown protocol, expected {PROTOCOL}: save it "
            "again with a newer torch"
        )
    interpret(file)  # the writer's type sizes: of no use, the storages say theirs
    content, storages = interpret(file)
    keys, _ = interpret(file)
    if not isinstance(keys, list):
        raise CheckpointError("is a damaged legacy checkpoint: it has no list of storage keys")
    return Archive("torch legacy", content, _storages(data, file.tell(), keys, storages))


def _storages(
    data: bytes, position: int, keys: list[object], storages: dict[str, Storage]
) -> dict[str, memoryview]:
    found: dict[str, memoryview] = {}
    for number, key in enumerate(keys, 1):
        if not isinstance(key, str) or key not in storages or key in found:
            raise CheckpointError(
                f"is a damaged legacy checkpoint: storage {number} of {len(keys)} is not one that "
                "its pickle describes"
            )
        end = position + 8 + storages[key].stored * element_size(storages[key].element)
        if end > len(data):
            raise CheckpointError(
                f"is a truncated legacy checkpoint: storage {number} of {len(keys)} should end at "
                f"byte {end}, the file has {len(data)} bytes; get the file again"
            )
        count = int.from_bytes(data[position : position + 8], "little", signed=True)
        if count != storages[key].stored:
            raise CheckpointError(
                f"is a damaged legacy checkpoint: storage {number} of {len(keys)} has {count} "
                f"elements, its pickle says {storages[key].stored}; get the file again"
            )
        found[key] = memoryview(data)[position + 8 : end]
        position = end
    if missing := len(storages) - len(found):
        raise CheckpointError(
            f"is a damaged legacy checkpoint: {missing} of {len(storages)} storages are missing"
        )
    return found
