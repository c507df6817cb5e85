"""Fetches one file over HTTP: resumed where it stopped, patient with a busy server.

Invariant (tests/unit/test_downloads.py): a part only grows by bytes that follow those it holds.
"""

from __future__ import annotations

import email.utils
import http.client
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from tqdm.auto import tqdm

from .image_record import DownloadError

_AGAIN = (429, 500, 502, 503, 504)  # what a server may say in passing
_PATIENCE = 600  # seconds that a Retry-After may ask for
_PIECE = 1 << 18  # bytes
_pause = time.sleep


def fetch_file(url: str, part: Path, timeout: float, tries: int) -> None:
    """Fill `part` to its end, going on where it stopped.

    timeout: seconds without a byte; tries: attempts in a row without progress. Raises
    DownloadError.
    """
    failures = 0
    while True:
        before, asked = _length(part), 0.0
        try:
            total = _receive(url, part, timeout)
            if total is None or _length(part) == total:
                return
            problem = f"the connection ended after {_length(part):,} of {total:,} bytes"
        except urllib.error.HTTPError as error:
            gone = ", the link is dead" if error.code in (404, 410) else ""
            problem = f"{error.code} {error.reason}{gone}"
            asked = retry_after(error.headers.get("Retry-After"))
            error.close()
            if error.code == 416:  # the part is longer than the file: it is another file's
                part.unlink(missing_ok=True)
            elif error.code not in _AGAIN:
                failures = tries
        except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSError
            problem = str(getattr(error, "reason", "") or error) or type(error).__name__
        failures = 1 if _length(part) > before and failures < tries else failures + 1
        if failures >= tries or asked > _PATIENCE:
            wait = f" (it asks to wait {asked:,.0f} seconds)" if asked else ""
            rest = f"; the next run goes on behind {part}" if _length(part) else ""
            raise DownloadError(f"{url}: {problem}{wait}{rest}")
        _pause(max(asked, min(60.0, 2.0 ** (failures - 1))))


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path, timeout: float) -> int | None:
    """Append what the server sends behind the part; the file's whole size, if it tells it."""
    start = _length(part)
    headers = {"User-Agent": "varireal-utils", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        span = reply.headers.get("Content-Range", "")
        goes_on = reply.status == 206
        if goes_on and not span.startswith(f"bytes {start}-"):
            part.unlink()
            raise http.client.HTTPException(f"asked for bytes from {start}, got {span!r}")
        rest = reply.headers.get("Content-Length")
        size = span.rpartition("/")[2] if goes_on else rest
        total = int(size) if size and size.isdecimal() else None
        with (
            open(part, "ab" if goes_on else "wb") as file,
            tqdm(
                total=total,
                initial=start if goes_on else 0,
                unit="B",
                unit_scale=True,
                desc=part.stem,
                mininterval=5,
            ) as bar,
        ):
            while piece := reply.read1(_PIECE):
                file.write(piece)
                bar.update(len(piece))
    return total


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 where it says nothing."""
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        then = email.utils.parsedate_to_datetime(header)
        return max(0.0, (then - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
