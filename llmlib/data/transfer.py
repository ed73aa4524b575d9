"""One request of a download: what was ordered, which bytes arrive, when to stop listening.

Written by hand. `download.py` decides which address to ask and what to do with a failure.
"""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3
from requests.exceptions import SSLError
from tqdm import tqdm

from llmlib import checks, files

CHUNK = 1 << 16  # bytes
SLOW, LOOK = 1000, 10.0  # bytes per second, over so many seconds: less is a drip without an end
MOST = 1 << 30  # bytes of a file whose size neither the caller nor the server says
COUNT = "[0-9]{1,15}"  # a number of bytes in a header
BROKEN = (requests.ConnectionError, urllib3.exceptions.HTTPError, ConnectionError)


class TryAgain(Exception):
    """One try failed in a way that another may not: a broken connection, a busy server."""


class WrongPiece(TryAgain):
    """The server cannot continue where we stopped: the next try asks for the whole file."""


class GiveUp(Exception):
    """This address is of no use: the file is missing there, or it is a different one."""


@dataclass(frozen=True)
class Order:
    """What `fetch` was asked for."""

    path: Path
    sha256: str | None
    size: int | None  # bytes
    timeout: float
    tries: int
    pause: float
    progress: bool
    most: int = MOST  # bytes, where nobody says how many there are
    check: Callable[[Path, str], None] = checks.content  # of a file that has no hash

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def verifiable(self) -> bool:
        return self.sha256 is not None or self.size is not None

    def problem(self, path: Path) -> str | None:
        """Return what is wrong with a file, in words, or None if it is the right one."""
        found = path.stat().st_size
        if self.size is not None and found != self.size:
            wrong = f"{found:,} bytes instead of {self.size:,}"
        elif self.sha256 and (digest := files.sha256(path)) != self.sha256.lower():
            wrong = f"sha256 {digest} instead of {self.sha256}"
        else:
            wrong = None if self.sha256 else self.fault(path)
        if wrong is None:
            return None
        with open(path, "rb") as file:
            return f"{wrong}, beginning with {file.read(60)!r}"

    def fault(self, path: Path) -> str | None:
        """Return why a file cannot be the right one although no hash says so, or None."""
        try:
            self.check(path, self.path.name)
        except ValueError as error:
            return getattr(error, "reason", str(error))
        return None


def receive(url: str, start: int, file: BinaryIO, order: Order) -> None:
    """Append the bytes from `start`, which is where the file ends now, in one request.

    Raises TryAgain or GiveUp.
    """
    # packed answers are declined: in them a Range would count packed bytes
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=order.timeout) as answer:
            if url.lower().startswith("https:") and not answer.url.lower().startswith("https:"):
                raise GiveUp(f"it redirects to {answer.url}, which is not encrypted")
            if start and answer.status_code == 416:
                return  # nothing follows: the caller sees whether what we have is the file
            begin, end = judge(answer, start, order)
            most = next(n for n in (order.size, end, order.most) if n is not None)
            free = shutil.disk_usage(order.part.parent).free
            if end is not None and end - begin > free:
                raise GiveUp(f"it announces {end:,} bytes, and {free:,} are free here")
            if begin != start:
                file.truncate(begin)
            with tqdm(
                desc=order.path.name, total=end or order.size, initial=begin,
                disable=not order.progress, unit="B", unit_scale=True,
            ) as bar:  # fmt: skip
                for chunk in arriving(answer):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if file.tell() > most and order.size is None:
                        file.truncate(0)
                        raise GiveUp(f"it sends more than {most:,} bytes, the most without a size")
                    if file.tell() > most:
                        return  # it is a different file: no need to see the rest
            if end is not None and file.tell() < end:
                raise TryAgain(f"the connection closed after {file.tell():,} of {end:,} bytes")
    except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
        raise TryAgain(f"no answer within {order.timeout:g} s") from error
    except BROKEN as error:
        if isinstance(error, SSLError) and "CERTIFICATE" in str(error):
            raise GiveUp(f"its TLS certificate was not accepted: {reason(error)}") from error
        raise TryAgain(f"the connection failed: {reason(error)}") from error
    except requests.RequestException as error:
        raise GiveUp(reason(error)) from error


def arriving(answer: requests.Response) -> Iterator[bytes]:
    """Yield the bytes of an answer as they arrive. Raises GiveUp where they only drip."""
    begin, n = time.monotonic(), 0
    while chunk := answer.raw.read1(CHUNK, decode_content=True):
        yield chunk
        n += len(chunk)
        if (seconds := time.monotonic() - begin) > LOOK:
            if n < SLOW * seconds:
                raise GiveUp(f"it sends less than {SLOW:,} bytes per second")
            begin, n = time.monotonic(), 0


def judge(answer: requests.Response, start: int, order: Order) -> tuple[int, int | None]:
    """Return at which bytes of the file the body begins and ends, from status and headers.

    It begins at 0 if a server ignores the Range and sends the whole file. The end is None if the
    transfer marks it (chunks do, and requests checks them). Raises TryAgain, GiveUp or WrongPiece.
    """
    code, packed = answer.status_code, "Content-Encoding" in answer.headers
    if code == 429 or code >= 500:
        raise TryAgain(f"HTTP {code} {answer.reason}")
    if code == 206 and start:
        said = answer.headers.get("Content-Range", "")
        match = re.fullmatch(rf"bytes ({COUNT})-({COUNT})/({COUNT}|\*)", said)
        if match and int(match[1]) == start and not packed:
            return start, int(match[2]) + 1 if match[3] == "*" else int(match[3])
        raise WrongPiece(f"asked for the bytes from {start}, it sent {said or 'unknown ones'!r}")
    if code != 200:
        raise GiveUp(f"HTTP {code} {answer.reason}")
    if (said := answer.headers.get("Content-Length")) is not None:
        if not re.fullmatch(COUNT, said):
            raise GiveUp(f"its Content-Length is {said[:100]!r}, which is no number of bytes")
        return 0, None if packed else int(said)
    if "Transfer-Encoding" in answer.headers:
        return 0, None
    if order.verifiable:
        return 0, order.size
    raise GiveUp("it does not say where the file ends, which only a size or sha256 could tell")


def reason(error: Exception) -> str:
    """Return the part of a message of requests that says what happened, without its brackets."""
    text = " ".join(str(error).split())
    match = re.search(r"(Failed to|Remote end|Read timed|\[SSL|\[Errno|Connection \w+ by).*", text)
    return (match[0] if match else text).rstrip("()'\". ") or type(error).__name__
