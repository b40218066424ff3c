"""Requests to a service: where they may go, how often they are sent, what a refusal means."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import reidkit
from reidkit.client._fields import File, Form, find_place
from reidkit.errors import (
    AbsentError,
    ArgumentError,
    GalleryError,
    ImageError,
    MismatchError,
    MissingExtraError,
)

if TYPE_CHECKING:
    import httpx

_TRIES = 6
"""How often a request is sent that the service is too busy to take."""

_LONGEST_WAIT = 20.0
"""Seconds before the next try, whatever the service asks for."""

_KEEP_ALIVE = 2.0
"""Seconds that an idle connection is kept: less than servers do, so that none is used that the
other side is just closing."""

_ADVICE = {
    401: "; give a key that is valid there (key=, --key or REIDKIT_KEY)",
    403: "; the key is valid but not for this: `reidkit keys add` makes others",
    404: "; is this the address of a reidkit service, with nothing of its path missing?",
    429: "; it is busy: ask again later",
    503: "; it is busy or stopping: ask again later",
}
"""What to do about a status."""

_PROBLEM_ADVICE = {
    "rate": "; this key asks too often: wait, or ask for fewer at once",
    "overloaded": "; it is busy: ask again later",
    "gallery": "; its log says why its gallery cannot be used",
    "engine": "; asking again does not help",
    "not-ready": "; it is starting or stopping: ask again later",
}
"""What to do about a problem of a type, which says more than the status."""

_ABSENT = frozenset({"nobody", "absent", "no-picture"})
"""Problems of something that is not in the gallery; any other 404 says nothing about it."""

_LASTING = frozenset({"engine", "rebound"})
"""Problems that asking again does not mend."""


class Connection:
    """An address, the key for it, and open connections. Safe to use from threads."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout: float,
        insecure: bool,
        transport: httpx.BaseTransport | None,
    ) -> None:
        """Check address and key; nothing is sent yet."""
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError("httpx", "client") from error
        self.url = _check_url(url, insecure=insecure)
        headers = {"User-Agent": f"reidkit/{reidkit.__version__}"}
        if key is not None:
            headers["Authorization"] = f"Bearer {_check_key(key)}"
        self._http = httpx.Client(
            headers=headers,
            timeout=timeout,
            follow_redirects=False,
            # A proxy named by the environment would read the key on the way to an http:// address.
            trust_env=self.url.startswith("https://"),
            limits=httpx.Limits(keepalive_expiry=_KEEP_ALIVE),
            transport=transport,
        )

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Form | None = None,
        files: Sequence[File] = (),
    ) -> dict[str, Any]:
        """Send a request and give what it was answered.

        Raises:
            GalleryError, MismatchError, ArgumentError, ImageError: as `Client` says.
        """
        answer = self.send(method, path, query=query, form=form, files=files)
        return self.read(answer, files)

    def read(self, answer: httpx.Response, files: Sequence[File] = ()) -> dict[str, Any]:
        """Give what a request was answered, or raise what the service complains of."""
        if answer.status_code >= 300:
            self.refuse(answer, files)
        return read_json(answer)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Form | None = None,
        files: Sequence[File] = (),
    ) -> httpx.Response:
        """Send a request, again where the service is too busy to take it; give the answer.

        A problem that lasts until somebody does something is given at once.
        """
        import httpx

        # A form without files is sent as multipart too: it is what the service reads.
        parts: list[tuple[str, Any]] = [
            (name, (None, value)) for name, values in (form or {}).items() for value in values
        ]
        parts += [("pictures", (file.name, file.data)) for file in files]
        for tried in range(1, _TRIES + 1):
            try:
                answer = self._http.request(
                    method, f"{self.url}{path}", params=query, files=parts or None
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise GalleryError(
                    f"{self.url} cannot be asked: {str(error) or type(error).__name__}; is the "
                    "service running, and is this its address?"
                ) from error
            if answer.status_code not in (429, 503) or tried == _TRIES:
                break
            if find_kind(read_json(answer)) in _LASTING:
                break
            time.sleep(_find_wait(answer.headers.get("Retry-After", ""), tried))
        return answer

    def refuse(self, answer: httpx.Response, files: Sequence[File] = ()) -> None:
        """Raise what the service complains of."""
        status, problem = answer.status_code, read_json(answer)
        said = str(problem.get("detail") or problem.get("title") or answer.reason_phrase)
        with self.understanding():
            for each in problem.get("refused") or ():
                raise ImageError(files[find_place(each["name"])].source, each["reason"])
        if status in (400, 413, 415, 422):
            raise ArgumentError(f"{self.url} did not take the request: {said}")
        if is_absent(answer):
            raise AbsentError(said)
        kind = find_kind(problem)
        if status == 409 or kind == "rebound":
            raise MismatchError(f"{self.url}: {said}")
        if 300 <= status < 400:
            place = answer.headers.get("Location", "unnamed")
            said = f"it sends on to {place}, and the key is not sent there: give that address"
        advice = _PROBLEM_ADVICE.get(kind, _ADVICE.get(status, ""))
        raise GalleryError(f"{self.url} answered {status}: {said}{advice}")

    @contextmanager
    def understanding(self) -> Iterator[None]:
        """Complain of an answer that is none of a service's, where the block fails on one."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise GalleryError(
                f"{self.url} is no reidkit service, or one of another version: its answer is not "
                f"understood ({type(error).__name__}: {error})"
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def read_json(answer: httpx.Response) -> dict[str, Any]:
    """Give the JSON object of an answer; an empty one where it holds none."""
    try:
        content = answer.json()
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def find_kind(problem: Mapping[str, Any]) -> str:
    """Give the short name of a problem that a service complains of; empty where it has none."""
    _, urn, kind = str(problem.get("type", "")).rpartition("urn:reidkit:problem:")
    return kind if urn else ""


def is_absent(answer: httpx.Response) -> bool:
    """Tell whether a service says that somebody or something is not in its gallery.

    A 404 alone does not: it comes from any other server at a wrong address too.
    """
    return answer.status_code == 404 and find_kind(read_json(answer)) in _ABSENT


def _check_url(url: str, *, insecure: bool) -> str:
    """Give an address without a slash at its end.

    Raises:
        ArgumentError: not an address, or one on the way to which the key could be read.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ArgumentError(f"{url!r} is no address of a service, such as http://127.0.0.1:8000")
    if parts.username is not None or parts.query or parts.fragment:
        raise ArgumentError(
            "the service's address holds a name, a query or a fragment: give the address alone, "
            "and the key as `key`"
        )
    if parts.scheme == "http" and not insecure and not _is_loopback(parts.hostname):
        raise ArgumentError(
            f"{url} is not encrypted: key and pictures could be read on the way to "
            f"{parts.hostname}. Use https://, or insecure=True (--insecure) where the network is "
            "trusted"
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_key(key: str) -> str:
    if not key.isascii() or not key.isprintable() or not key or " " in key:
        raise ArgumentError(
            "the key holds blanks or other characters that no key has: copy it anew"
        )
    return key


def _find_wait(asked: str, tried: int) -> float:
    """Give the seconds until the next try: as many as are asked for, else more each time."""
    seconds = float(asked) if asked.isdecimal() else 0.5 * 2**tried
    return min(seconds, _LONGEST_WAIT)
