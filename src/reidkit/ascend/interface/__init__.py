"""The Python interface of the guide's inference tool, member for member."""

from __future__ import annotations

from reidkit.ascend.interface._devices import MultiDeviceSession as MultiDeviceSession
from reidkit.ascend.interface._session import InferSession as InferSession
from reidkit.ascend.interface._session import MemorySummary as MemorySummary
