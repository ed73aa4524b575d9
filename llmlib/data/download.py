"""Downloads that are verified, resumed, retried and taken from mirrors, and never half written.

Written by hand. Everything the course downloads comes through `fetch`, which needs no network if
the file is there already. A download grows in `NAME.part` beside its place and is renamed when it
is complete and verified, so that a file under its own name can be trusted.

Left out: several connections at once, and servers that ask for a login. TLS certificates are
always verified; behind a proxy with its own certificate, point REQUESTS_CA_BUNDLE at that.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, SSLError
from tqdm import tqdm

from llmlib import checks, files

try:
    import fcntl
except ImportError:  # Windows lacks it, and there no process can rename what another has open
    fcntl = None

CHUNK = 1 << 16  # bytes
BROKEN = (requests.ConnectionError, ChunkedEncodingError, ContentDecodingError, ConnectionError)


class DownloadError(OSError):
    """A download failed: the message lists what each address answered, and what to do."""


class TryAgain(Exception):
    """One try failed in a way that another may not: a broken connection, a busy server."""


class WrongPiece(TryAgain):
    """The server cannot continue where we stopped: the next try asks for the whole file."""


class GiveUp(Exception):
    """This address is of no use: the file is missing there, or it is a different one."""


def fetch(
    urls: str | Sequence[str],
    path: str | Path,
    sha256: str | None = None,
    size: int | None = None,
    *,
    timeout: float = 30.0,
    tries: int = 4,
    pause: float = 1.0,
    progress: bool = True,
) -> Path:
    """Return `path`, after downloading it from the first of `urls` that gives the right file.

    A file that is there and has the `size` (bytes) and `sha256` (hexadecimal) is returned at once.
    What an earlier call or a killed process left in `NAME.part` is continued if `size` or `sha256`
    can tell afterwards whether the pieces belong together; otherwise the download starts over.

    timeout: seconds without a connection, or without a byte, after which a try has failed.
    tries: how often an address may fail in a row without any new bytes. Between tries it waits
        `pause` seconds, then twice as long, and so on.

    If several processes fetch the same file, one downloads and the others wait for it (on Windows,
    which has no such lock, they may fail, but none puts a wrong file in place).

    Raises DownloadError, an OSError, if no address gives the file or it cannot be written. Raises
    ValueError or TypeError for arguments that make no sense.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    order = Order(Path(path), sha256, size, timeout, tries, pause, progress)
    checks.download(urls, order)
    try:
        return order.path if order.is_filled() else fill(order, urls)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {error.strerror or error}. Free some space, or choose a place "
            "that you may write to, and try again: what was downloaded before is kept"
        ) from error


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

    @property
    def part(self) -> Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def verifiable(self) -> bool:
        return self.sha256 is not None or self.size is not None

    def is_filled(self) -> bool:
        """Tell whether the right file is in its place. Raises DownloadError if that is a folder."""
        if self.path.is_dir():
            raise DownloadError(f"cannot download to {self.path}: it is a folder, name a file")
        return self.path.exists() and not self.problem(self.path)

    def problem(self, path: Path) -> str | None:
        """Return what is wrong with a file, in words, or None if it is the right one."""
        found = path.stat().st_size
        if self.size is not None and found != self.size:
            wrong = f"{found:,} bytes instead of {self.size:,}"
        elif self.sha256 and (digest := files.sha256(path)) != self.sha256.lower():
            wrong = f"sha256 {digest} instead of {self.sha256}"
        else:
            return None
        with open(path, "rb") as file:
            return f"{wrong}, beginning with {file.read(60)!r}"


def fill(order: Order, urls: list[str]) -> Path:
    """Download from one address after another until the right file is in its place."""
    order.path.parent.mkdir(parents=True, exist_ok=True)
    with open_alone(order.part) as file:
        if order.is_filled():
            return order.path  # another process brought it while this one waited
        failures = []
        for url in urls:
            try:
                download(url, file, order)
                break
            except GiveUp as error:
                failures.append(f"  {url}: {error}")
        else:
            kept = file.seek(0, os.SEEK_END) if order.verifiable else file.truncate(0)
            raise DownloadError(explain(order, failures, kept))
        os.fsync(file.fileno())
        if fcntl:  # while this process still holds the lock
            os.replace(order.part, order.path)
    if not fcntl:  # Windows cannot rename an open file
        os.replace(order.part, order.path)
    files.flush_folder(order.path.parent)
    return order.path


@contextmanager
def open_alone(part: Path) -> Iterator[BinaryIO]:
    """Open `part` for reading and appending, once no other process has it open in this way.

    The lock is the kernel's, on the open file: it ends with the process, even if that is killed.
    """
    while True:
        with open(part, "a+b") as file:
            if fcntl:
                with suppress(OSError):  # some network drives cannot lock: go on without
                    fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    if not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                        continue  # while we waited, its owner renamed it and another started over
                except FileNotFoundError:
                    continue
            try:
                yield file
            finally:
                if file.seek(0, os.SEEK_END) == 0 and fcntl:
                    part.unlink(missing_ok=True)
            return


def download(url: str, file: BinaryIO, order: Order) -> None:
    """Fill the open `.part` with the right file from one address. Raises GiveUp if that fails."""
    failed, farthest = 0, file.seek(0, os.SEEK_END)
    while True:
        start = file.seek(0, os.SEEK_END)
        if start and order.verifiable and not order.problem(order.part):
            return  # only the renaming was missing
        if not order.verifiable or (order.size is not None and start >= order.size):
            start = file.truncate(0)
        try:
            receive(url, start, file, order)
        except TryAgain as error:
            if isinstance(error, WrongPiece):
                file.truncate(0)
            end = file.seek(0, os.SEEK_END)
            failed, farthest = 1 if end > farthest else failed + 1, max(end, farthest)
            if failed >= order.tries:
                raise GiveUp(f"{error} ({failed} tries)" if failed > 1 else str(error)) from error
            time.sleep(order.pause * 2 ** (failed - 1))
            continue
        file.flush()
        wrong = order.problem(order.part)
        if not wrong:
            return
        file.truncate(0)
        if not start:
            raise GiveUp(wrong)
        # the pieces came from different files: try again from the first byte


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
            if begin != start:
                file.truncate(begin)
            with tqdm(
                desc=order.path.name, total=end or order.size, initial=begin,
                disable=not order.progress, unit="B", unit_scale=True,
            ) as bar:  # fmt: skip
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if order.size is not None and file.tell() > order.size:
                        return  # it is a different file: no need to see the rest
            if end is not None and file.tell() < end:
                raise TryAgain(f"the connection closed after {file.tell():,} of {end:,} bytes")
    except (requests.Timeout, TimeoutError) as error:
        raise TryAgain(f"no answer within {order.timeout:g} s") from error
    except BROKEN as error:
        if isinstance(error, SSLError) and "CERTIFICATE" in str(error):
            raise GiveUp(f"its TLS certificate was not accepted: {reason(error)}") from error
        raise TryAgain(f"the connection failed: {reason(error)}") from error
    except requests.RequestException as error:
        raise GiveUp(reason(error)) from error


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
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", said)
        if match and int(match[1]) == start and not packed:
            return start, int(match[2]) + 1 if match[3] == "*" else int(match[3])
        raise WrongPiece(f"asked for the bytes from {start}, it sent {said or 'unknown ones'!r}")
    if code != 200:
        raise GiveUp(f"HTTP {code} {answer.reason}")
    if "Content-Length" in answer.headers:
        return 0, None if packed else int(answer.headers["Content-Length"])
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


def explain(order: Order, failures: list[str], kept: int) -> str:
    """Return the message of a DownloadError: what went wrong at each address, and what to do."""
    facts = [f"{order.size:,} bytes"] if order.size is not None else []
    facts += [f"sha256 {order.sha256}"] if order.sha256 else []
    lines = [f"could not download {order.path.name}" + (f" ({', '.join(facts)})" if facts else "")]
    lines += failures
    if order.path.exists():
        lines.append(f"The file at {order.path} is a different one: {order.problem(order.path)}.")
    resumes = f" ({kept:,} bytes are here, and the rest will be requested)" if kept else ""
    lines.append(f"Try again{resumes}, or get the file in another way and put it at {order.path}")
    return "\n".join(lines)
