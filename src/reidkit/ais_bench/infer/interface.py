"""`InferSession` and its company, where scripts for the guide's tool look for them."""

from __future__ import annotations

from reidkit.ascend.interface import InferSession as InferSession
from reidkit.ascend.interface import MemorySummary as MemorySummary
from reidkit.ascend.interface import MultiDeviceSession as MultiDeviceSession
