"""A gallery behind `reidkit serve`, asked over HTTP (extra `client`)."""

from __future__ import annotations

from reidkit.client._client import Client, UnfinishedError

__all__ = ["Client", "UnfinishedError"]
