"""Downloads into `HARNESS_CACHE_DIR`: pinned checksum, mirrors, resume, progress.

pooch verifies a download before it takes its final name; its transfer is ours, because pooch's
starts anew when a connection breaks. requests and pooch are imported when something is fetched.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from harness.datasets.folders import cache_dir, caching, exclusive, find, verify
from harness.errors import DataError

__all__ = ["Remote", "download"]

ATTEMPTS = 4
PAUSE_S = 2.0
TIMEOUT_S = (10.0, 60.0)
REPORT_S = 5.0
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A public file.

    Arguments:
        file: Its name; a user may put it into the data folder instead of downloading it.
        urls: Where it lies, the first is tried first.
        checksum: `md5:` or `sha256:` and hex digits, as its publisher states it.
        megabytes: Its size in 10^6 bytes, rounded; what is twice as large is not taken.
        origin: Its place in words, for messages.
    """

    file: str
    urls: tuple[str, ...]
    checksum: str
    megabytes: int
    origin: str

    @property
    def hex_digits(self) -> str:
        """The checksum without the name of its algorithm."""
        return self.checksum.partition(":")[2]

    @property
    def cached(self) -> Path:
        """Where a download lies."""
        name = PurePosixPath(self.file).name
        return cache_dir() / "downloads" / f"{self.hex_digits[:8]}-{name}"

    def is_here(self) -> bool:
        """True if it has been downloaded, or the user has put it into the data folder."""
        return self.cached.is_file() or find(self.file) is not None


def download(dataset: str, remote: Remote) -> Path:
    """Path of a verified copy of a public file, downloaded if there is none.

    A transfer that breaks is continued, now and in the next call; what has come so far has its own
    name, `<file>.part`, until the whole has been verified.

    Raises:
        DataError: No mirror gave the file, its content is not the pinned one, the disk is full, or
            pooch is not installed.
    """
    own = find(remote.file)
    if own is not None:
        verify(dataset, remote.file, own, remote.checksum)
        return own
    with caching(dataset), exclusive(remote.cached):
        _retrieve(dataset, remote)
    return remote.cached


def _retrieve(dataset: str, remote: Remote) -> None:
    try:
        import pooch  # type: ignore[import-untyped]
        from requests import HTTPError, RequestException
    except ImportError as error:
        raise DataError(
            f"dataset '{dataset}' is downloaded with pooch, which is not installed; "
            "run: pip install 'cnf-harness[data]'"
        ) from error
    # Its messages name folders of this machine, and records hold none.
    pooch.get_logger().setLevel("ERROR")
    path = remote.cached
    part = path.with_name(path.name + ".part")
    transfer = _Transfer(part, 2_000_000 * remote.megabytes, _reporter(dataset, remote))

    def complaint(url: str) -> str | None:
        """What is wrong with a mirror; None if the file has come."""
        resumed = part.exists()
        try:
            pooch.retrieve(url, remote.checksum, path.name, path.parent, downloader=transfer)
        except HTTPError as error:
            return "answered " + str(error).partition(":")[0]
        except RequestException:
            return "could not be reached, or the connection broke"
        except _TooLarge:
            return "sends more than the file should have"
        except ValueError:
            # Pieces of two different files may have been joined.
            return complaint(url) if resumed else "sent another content (its checksum differs)"
        return None

    complaints = []
    for url in remote.urls:
        wrong = complaint(url)
        if wrong is None:
            return
        complaints.append(f"{urlsplit(url).netloc} {wrong}")
    came = part.stat().st_size if part.exists() else 0
    kept = f"{came / 1e6:.3g} MB are kept, so run the same command again; or " if came else ""
    raise DataError(
        f"dataset '{dataset}': {remote.file} ({remote.megabytes} MB) could not be downloaded: "
        f"{'; '.join(complaints)}. Fix: {kept}put {remote.file} of {remote.origin} into the "
        "folder that HARNESS_DATA_DIR names"
    )


class _TooLarge(Exception):
    """A server sends more than the file can have."""


class _Transfer:
    """Fetches a URL into `part`, from where an earlier transfer stopped, then moves it.

    Arguments:
        part: Holds what has come so far.
        limit: Most bytes the file may have.
        report: Called with the number of bytes that have come.
    """

    def __init__(self, part: Path, limit: int, report: Callable[[int], None]) -> None:
        self._part, self._limit, self._report = part, limit, report

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """The form of pooch's downloaders."""
        from requests import HTTPError, RequestException

        for attempt in range(ATTEMPTS):
            try:
                self._stream(url)
                break
            except HTTPError:
                raise
            except RequestException:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(PAUSE_S * (attempt + 1))
            except (OSError, _TooLarge):
                # A full disk must be free again, and what is too large cannot become right.
                self._part.unlink(missing_ok=True)
                raise
        self._part.replace(output_file)

    def _stream(self, url: str) -> None:
        import requests

        start = self._part.stat().st_size if self._part.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            span = answer.headers.get("Content-Range", "")
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                # Either all has come, and the checksum will say so, or the rest is of no use.
                if span != f"bytes */{start}":
                    self._part.unlink()
                    raise requests.ConnectionError("the part does not fit the file")
                return
            answer.raise_for_status()
            resumed = start > 0 and span.startswith(f"bytes {start}-")
            with self._part.open("ab" if resumed else "wb") as file:
                came = start if resumed else 0
                for chunk in answer.iter_content(CHUNK):
                    came += len(chunk)
                    if came > self._limit:
                        raise _TooLarge
                    file.write(chunk)
                    self._report(came)


def _reporter(dataset: str, remote: Remote) -> Callable[[int], None]:
    """Writes a line to the standard error every few seconds."""
    last = time.perf_counter()

    def report(came: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= REPORT_S:
            last = now
            text = f"{dataset}: {came // 1_000_000} of {remote.megabytes} MB downloaded"
            print(text, file=sys.stderr, flush=True)

    return report
