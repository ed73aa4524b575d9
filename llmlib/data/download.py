"""Downloads that are verified, resumed, retried and taken from mirrors, and never half written.

Written by hand. Everything the course downloads comes through `fetch`, which needs no network if
the file is there already. A download grows in `NAME.part` beside its place and is renamed when it
is complete and verified, so that a file under its own name can be trusted.

Left out: several connections at once, and servers that ask for a login. TLS certificates are
always verified; behind a proxy with its own certificate, point REQUESTS_CA_BUNDLE at that.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from llmlib import checks, files
from llmlib.data.transfer import MOST, GiveUp, Order, TryAgain, WrongPiece, receive

try:
    import fcntl
except ImportError:  # Windows lacks it, and there no process can rename what another has open
    fcntl = None


class DownloadError(OSError):
    """A download failed: the message lists what each address answered, and what to do."""


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
    most: int = MOST,
    check: Callable[[Path, str], None] = checks.content,
) -> Path:
    """Return `path`, after downloading it from the first of `urls` that gives the right file.

    A file that is there and has the `size` (bytes) and `sha256` (hexadecimal) is returned at once.
    What an earlier call or a killed process left in `NAME.part` is continued if `size` or `sha256`
    can tell afterwards whether the pieces belong together; otherwise the download starts over.

    A file without a sha256 still has to be what its name says (JSON, safetensors, protobuf, no page
    of HTML), also when it is found: a network that asks for a login answers with a page.

    timeout: seconds without a connection, or without a byte, after which a try has failed.
    tries: how often an address may fail in a row without any new bytes. Between tries it waits
        `pause` seconds, then twice as long, and so on. One that sends hardly anything, for seconds,
        has failed at once.
    most: how many bytes a file may have if neither the caller nor the server says its size.
    check: called with the path of a file and its future name; raises ValueError if it is wrong.

    If several processes fetch the same file, one downloads and the others wait for it (on Windows,
    which has no such lock, they may fail, but none puts a wrong file in place).

    Raises DownloadError, an OSError, if no address gives the file or it cannot be written. Raises
    ValueError or TypeError for arguments that make no sense.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    order = Order(Path(path), sha256, size, timeout, tries, pause, progress, most, check)
    checks.download(urls, order)
    try:
        return order.path if is_filled(order) else fill(order, urls)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {error.strerror or error}. Free some space, or choose a place "
            "that you may write to, and try again: what was downloaded before is kept"
        ) from error


def is_filled(order: Order) -> bool:
    """Tell whether the right file is in its place. Raises DownloadError if that is a folder."""
    if order.path.is_dir():
        raise DownloadError(f"cannot download to {order.path}: it is a folder, name a file")
    return order.path.exists() and not order.problem(order.path)


def fill(order: Order, urls: list[str]) -> Path:
    """Download from one address after another until the right file is in its place."""
    order.path.parent.mkdir(parents=True, exist_ok=True)
    with open_alone(order.part) as file:
        if is_filled(order):
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
