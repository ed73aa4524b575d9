"""`fetch` against a server on this machine that misbehaves in every way we could think of.

After each case there is the right file, or no file and an error that says what to do.
"""

import gzip
import hashlib
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmlib.data import download, transfer
from llmlib.data.download import DownloadError, fetch
from llmlib.files import home

BODY = random.Random(1).randbytes(300_000)
WRONG = random.Random(2).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
WANTED = {"sha256": SHA256, "size": len(BODY)}
QUICK = {"timeout": 0.4, "pause": 0.01, "tries": 3, "progress": False}
get = partial(fetch, **QUICK)


class Server(ThreadingHTTPServer):
    """Answers the n-th request with the n-th function of `script`; the last one stays in force."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.ranges, self.headers = [], [], []
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def url(self, *script, name="file.bin"):
        self.script += script
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # a client that hung up is part of the tests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.ranges.append(self.headers["Range"])
        self.server.headers.append(dict(self.headers))
        script = self.server.script
        (script.pop(0) if len(script) > 1 else script[0])(self)

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file.bin"


def part_of(path):
    return path.with_name(path.name + ".part")


def leave_part(path, content):
    path.parent.mkdir()
    part_of(path).write_bytes(content)


# What the server may do. --------------------------------------------------------------------------


def good(request, body=BODY):
    """As a good server does: Range is honoured."""
    start = int(re.findall(r"\d+", request.headers["Range"] or "0")[0])
    if start >= len(body):
        request.answer(416, Content_Range=f"bytes */{len(body)}")
    elif start:
        said = f"bytes {start}-{len(body) - 1}/{len(body)}"
        request.answer(206, body[start:], Content_Range=said)
    else:
        request.answer(200, body)


def ignores_range(request):
    request.answer(200, BODY)


def cut(request):
    """Sends 120,000 bytes of what it announced and closes."""
    start = int(re.findall(r"\d+", request.headers["Range"] or "0")[0])
    said = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}" if start else None
    length = str(len(BODY) - start)
    piece = BODY[start : start + 120_000]
    request.answer(206 if start else 200, piece, Content_Length=length, Content_Range=said)
    request.close_connection = True


def stalls(request, after=130_000):
    request.answer(200, BODY[:after], Content_Length=str(len(BODY)))
    request.wfile.flush()
    request.server.released.wait(600)
    request.close_connection = True


def says_nothing(request):
    request.server.released.wait(600)
    request.close_connection = True


def hangs_up(request):
    request.close_connection = True


def status(code, body=b"<!DOCTYPE html><p>Sorry"):
    return lambda request: request.answer(code, body)


def redirect(url):
    return lambda request: request.answer(302, Location=url)


def sends(body, **headers):
    return lambda request: request.answer(200, body, **headers)


def chunked(body, finished=True):
    def answer(request):
        request.answer(200, Content_Length=None, Transfer_Encoding="chunked")
        request.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) + b"0\r\n\r\n" * finished)
        request.close_connection = not finished

    return answer


def until_close(body):
    def answer(request):
        request.answer(200, Content_Length=None, Connection="close")
        request.wfile.write(body)
        request.close_connection = True

    return answer


# It works. ----------------------------------------------------------------------------------------


def test_downloads_verifies_and_leaves_nothing_else(server, path):
    assert get(server.url(good), path, **WANTED) == path
    assert path.read_bytes() == BODY
    assert os.listdir(path.parent) == ["file.bin"]


def test_a_file_that_is_there_needs_no_network(path):
    path.parent.mkdir()
    path.write_bytes(BODY)
    nowhere = "http://127.0.0.1:9/"
    assert get(nowhere, str(path), sha256=SHA256.upper()) == path
    assert get(nowhere, path) == get(nowhere, path, size=len(BODY)) == path


def test_a_wrong_file_that_is_there_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(WRONG)
    assert get(server.url(good), path, sha256=SHA256).read_bytes() == BODY


def test_asks_for_unpacked_bytes(server, path):
    get(server.url(good), path)
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_a_packed_answer_is_unpacked(server, path):
    packed = gzip.compress(BODY)
    get(server.url(sends(packed, Content_Encoding="gzip")), path, **WANTED)
    assert path.read_bytes() == BODY


def test_a_server_that_packs_cannot_continue_and_is_asked_from_the_start(server, path):
    leave_part(path, BODY[:1000])
    body = gzip.compress(BODY[1000:])
    said = f"bytes 1000-{len(BODY) - 1}/{len(BODY)}"
    packed = partial(
        Handler.answer, code=206, body=body, Content_Encoding="gzip", Content_Range=said
    )
    get(server.url(packed, good), path, sha256=SHA256)
    assert path.read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("body", [BODY, b"x", b""])
def test_without_hash_and_size_a_clean_end_is_enough(server, tmp_path, body):
    assert get(server.url(sends(body)), tmp_path / "a").read_bytes() == body
    server.script.clear()
    if body:
        assert get(server.url(chunked(body)), tmp_path / "b").read_bytes() == body


def test_an_end_that_nobody_can_tell_is_an_error_but_a_hash_can_tell(server, path):
    with pytest.raises(DownloadError, match="does not say where the file ends"):
        get(server.url(until_close(BODY)), path)
    assert os.listdir(path.parent) == []
    assert get(server.url(), path, sha256=SHA256).read_bytes() == BODY


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_followed_to_another_server(server, path, code):
    other = Server()
    try:
        there = other.url(good)
        get(server.url(lambda r: r.answer(code, Location=there)), path, **WANTED)
    finally:
        other.close()
    assert path.read_bytes() == BODY


# It fails on the way, and works. ------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [status(500), status(503), status(429), hangs_up, says_nothing])
def test_passing_trouble_is_tried_again(server, path, trouble):
    get(server.url(trouble, good), path, **WANTED)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("trouble", [cut, stalls])
def test_a_broken_transfer_is_continued_where_it_broke(server, path, trouble):
    get(server.url(trouble, good), path, **WANTED)
    assert path.read_bytes() == BODY
    assert re.fullmatch(r"bytes=\d{5,}-", server.ranges[1])


def test_a_stalling_server_does_not_hang_the_caller(server, path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match=r"Read timed out|within 0.4 s"):
        get(server.url(says_nothing), path, **WANTED)
    assert time.monotonic() - start < 5


def test_a_connection_that_always_breaks_gets_there_in_pieces(server, path):
    fetch(server.url(cut), path, **WANTED, **{**QUICK, "tries": 2})
    assert path.read_bytes() == BODY
    assert len(server.ranges) >= 3


def test_a_server_that_ignores_range_is_read_from_the_start(server, path):
    get(server.url(cut, ignores_range), path, **WANTED)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("said", [f"bytes 5-{len(BODY) - 996}/{len(BODY)}", "lines 1-2/3", None])
def test_the_wrong_piece_is_not_appended(server, path, said):
    """Not even where it has the right length and no hash would tell."""
    leave_part(path, BODY[:1000])
    piece = lambda request: request.answer(206, BODY[5:-995], Content_Range=said)  # noqa: E731
    get(server.url(piece, good), path, size=len(BODY))
    assert path.read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", None]


def test_a_piece_of_the_piece_that_was_asked_for_is_kept(server, path):
    leave_part(path, BODY[:1000])
    said = f"bytes 1000-1999/{len(BODY)}"
    piece = lambda request: request.answer(206, BODY[1000:2000], Content_Range=said)  # noqa: E731
    assert get(server.url(piece, good), path, **WANTED).read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", "bytes=2000-"]


def test_a_part_that_is_complete_needs_no_network_but_its_name(path):
    leave_part(path, BODY)
    assert get("http://127.0.0.1:9/", path, **WANTED).read_bytes() == BODY
    assert not part_of(path).exists()


@pytest.mark.parametrize("left", [WRONG[:1000], WRONG, WRONG + b"more"])
@pytest.mark.parametrize("wanted", [WANTED, {"sha256": SHA256}])
def test_a_part_of_another_file_is_thrown_away(server, path, left, wanted):
    """With a hash alone the server is asked for what follows, and answers 416 or the wrong rest."""
    leave_part(path, left)
    assert get(server.url(good), path, **wanted).read_bytes() == BODY
    if "size" in wanted and len(left) >= len(BODY):
        assert server.ranges == [None]


def test_pieces_that_nothing_can_verify_are_not_glued_together(server, path):
    leave_part(path, WRONG[:1000])
    assert get(server.url(good), path).read_bytes() == BODY
    assert server.ranges == [None]


def test_a_mirror_takes_over(server, path):
    other = Server()
    try:
        urls = [other.url(status(404)), server.url(sends(WRONG), name="mirror"), other.url()]
        other.script.append(good)
        get(urls, path, **WANTED)
    finally:
        other.close()
    assert path.read_bytes() == BODY


def test_a_killed_download_is_continued(server, path):
    script = (
        "import sys; from llmlib.data.download import fetch;"
        "fetch(sys.argv[1], sys.argv[2], size=300_000, timeout=600, progress=False)"
    )
    url = server.url(partial(stalls, after=200_000), good)
    child = subprocess.Popen([sys.executable, "-c", script, url, str(path)], cwd=home())
    while not (part_of(path).exists() and part_of(path).stat().st_size > 50_000):
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    child.wait()
    assert not path.exists()
    assert get(url, path, **WANTED).read_bytes() == BODY
    assert re.fullmatch(r"bytes=\d{5,}-", server.ranges[1])


@pytest.mark.skipif(download.fcntl is None, reason="needs locks as Unix has them")
def test_of_two_that_fetch_the_same_file_one_downloads(server, path):
    def slow(request):
        time.sleep(0.2)
        good(request)

    url, found = server.url(slow), []
    threads = [
        threading.Thread(target=lambda: found.append(get(url, path, **WANTED).read_bytes()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BODY] * 4
    assert len(server.ranges) == 1
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.skipif(download.fcntl is None, reason="needs locks as Unix has them")
def test_who_waited_gets_the_part_that_has_the_name_now(tmp_path):
    part, found = tmp_path / "file.part", []

    def wait():
        with download.open_alone(part) as file:
            file.seek(0)
            found.append(file.read())

    with download.open_alone(part) as file:
        file.write(b"done")
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.1)
        os.replace(part, tmp_path / "file")
        part.write_bytes(b"started over")
    waiting.join()
    assert found == [b"started over"]


# It fails: no file, and an error that helps. ------------------------------------------------------


@pytest.mark.parametrize("code", [403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(server, path, code):
    with pytest.raises(DownloadError, match=f"HTTP {code}"):
        get(server.url(status(code)), path, **WANTED)
    assert len(server.ranges) == 1
    assert os.listdir(path.parent) == []


def test_the_error_names_every_address_what_was_wanted_and_what_to_do(server, path):
    urls = [server.url(status(404), name="one"), "http://127.0.0.1:9/two"]
    with pytest.raises(DownloadError) as caught:
        get(urls, path, **WANTED)
    for part in [*urls, "404", "refused", "300,000 bytes", SHA256, "Try again", str(path)]:
        assert part in str(caught.value)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("wanted", [WANTED, {"sha256": SHA256}])
def test_wrong_bytes_are_deleted(server, path, wanted):
    with pytest.raises(DownloadError, match=r"sha256 .* instead of"):
        get(server.url(sends(WRONG)), path, **wanted)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("wanted", [WANTED, {"size": len(BODY)}, {"sha256": SHA256}])
@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Log in", b"version https://git-lfs.github"])
@pytest.mark.parametrize("how", [sends, chunked])
def test_a_page_in_place_of_the_file_is_quoted(server, path, page, how, wanted):
    with pytest.raises(DownloadError, match=re.escape(repr(page))):
        get(server.url(how(page)), path, **wanted)
    assert len(server.ranges) == 1
    assert os.listdir(path.parent) == []


def test_a_file_that_does_not_end_is_cut_off(server, path):
    with pytest.raises(DownloadError, match="instead of 1,000"):
        get(server.url(good), path, size=1000)
    assert not path.exists()


@pytest.mark.parametrize("body", [chunked(BODY[:99_000], False), until_close(BODY[:99_000])])
def test_what_ends_early_is_not_a_file_and_is_kept_for_later(server, path, body):
    with pytest.raises(DownloadError, match=r"Try again \([\d,]+ bytes are here"):
        get(server.url(body), path, size=len(BODY))
    assert not path.exists()
    server.script.clear()
    assert get(server.url(good), path, **WANTED).read_bytes() == BODY
    assert server.ranges[-1] is not None


def test_a_chunked_answer_without_its_end_is_not_a_file(server, path):
    with pytest.raises(DownloadError, match="connection"):
        get(server.url(chunked(BODY, finished=False)), path)
    assert os.listdir(path.parent) == []


def test_an_old_file_survives_a_failed_download_and_is_named(server, path):
    path.parent.mkdir()
    path.write_bytes(WRONG)
    with pytest.raises(DownloadError, match=f"file at {re.escape(str(path))} is a different one"):
        get(server.url(status(404)), path, **WANTED)
    assert path.read_bytes() == WRONG


def test_redirects_in_a_circle_end(server, path):
    url = server.url()
    with pytest.raises(DownloadError, match="redirects"):
        get(server.url(redirect(url)), path)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_certificate_nobody_vouches_for_is_refused(tmp_path, path):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("this openssl cannot make such a certificate")
    server = Server()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    try:
        with pytest.raises(DownloadError, match="certificate was not accepted"):
            get(server.url(good).replace("http:", "https:"), path, **WANTED)
    finally:
        server.close()
    assert server.ranges == []
    assert not path.exists()


def test_verification_of_certificates_is_nowhere_switched_off():
    for file in Path(download.__file__).parent.rglob("*.py"):
        assert not re.search(
            r"verify\s*=\s*(False|0|None)|CERT_NONE|_create_unverified", file.read_text("utf-8")
        )


def test_a_redirect_away_from_encryption_is_refused(path, monkeypatch):
    class Answer(transfer.requests.Response):
        def close(self):
            pass

    answer = Answer()
    answer.status_code, answer.url = 200, "http://example.org/file"
    monkeypatch.setattr(transfer.requests, "get", lambda *args, **kwargs: answer)
    with pytest.raises(DownloadError, match="not encrypted"):
        get("https://example.org/file", path)


# Servers that mean it ill, and networks that ask for a login. -------------------------------------


def drips(request):
    """A byte now and then, for ever: none of them is late."""
    request.answer(200, Content_Length="300000")
    while not request.server.released.wait(0.02):
        request.wfile.write(b"x")


def drips_in_chunks(request):
    request.answer(200, Content_Length=None, Transfer_Encoding="chunked")
    while not request.server.released.wait(0.02):
        request.wfile.write(b"1\r\nx\r\n")


def floods(request):
    """Chunks without an end."""
    request.answer(200, Content_Length=None, Transfer_Encoding="chunked")
    for _ in range(300):
        request.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")


@pytest.mark.parametrize(
    "said", ["banana", "-5", "5.0", "0x10", "1_0", "9" * 5000, "", "5, 6", "٣"]
)
def test_a_length_that_is_no_number_is_a_failed_address(server, path, said):
    bad = server.url(sends(BODY, Content_Length=said.encode().decode("latin-1")), good)
    assert get([bad, server.url()], path, sha256=SHA256).read_bytes() == BODY
    path.unlink()
    server.script[:] = [sends(BODY, Content_Length="banana")]
    with pytest.raises(DownloadError, match="Content-Length is 'banana'"):
        get(server.url(), path)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("drip", [drips, drips_in_chunks])
def test_a_drip_is_a_failed_address(server, path, monkeypatch, drip):
    monkeypatch.setattr(transfer, "LOOK", 0.5)
    begin = time.monotonic()
    assert get([server.url(drip, good), server.url()], path, sha256=SHA256).read_bytes() == BODY
    assert time.monotonic() - begin < 5
    assert len(server.ranges) <= 3  # not asked again and again, although bytes came each time


def test_a_flood_ends_at_the_most_that_is_allowed(server, path):
    urls = [server.url(floods, good), server.url()]
    assert get(urls, path, sha256=SHA256, most=1_000_000).read_bytes() == BODY
    server.script[:] = [floods]
    with pytest.raises(DownloadError, match="more than 1,000,000 bytes"):
        get(server.url(), path.with_name("other"), most=1_000_000)
    assert os.listdir(path.parent) == [path.name]


def test_more_than_fits_on_the_disk_is_not_begun(server, path):
    with pytest.raises(DownloadError, match="announces 999,999,999,999,999 bytes, and"):
        get(server.url(sends(BODY, Content_Length="9" * 15)), path)
    assert os.listdir(path.parent) == []


TENSORS = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
RIGHT = {
    "config.json": b'{"n_embd": 768}',
    "model.safetensors": len(TENSORS).to_bytes(8, "little") + TENSORS + bytes(8),
    "model.ckpt.meta": b"\x0a\x03abc\x12\x00\x1a\x02xy",
    "book.txt": b"Once upon a time <b>bold</b>",
}
LOGIN = b"\n<!DOCTYPE html><title>Welcome to our hotel</title>"


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("wrong", [LOGIN, b"", b"Please log in", b"\xef\xbb\xbf <html>", None])
def test_a_file_without_a_hash_is_what_its_name_says(server, tmp_path, name, wrong):
    wrong = RIGHT[name][:-3] if wrong is None else wrong  # cut short
    if name == "book.txt" and b"<" not in wrong[:9]:
        return  # any text may be a text
    path, urls = tmp_path / name, [server.url(sends(wrong), sends(RIGHT[name])), server.url()]
    assert get(urls, path).read_bytes() == RIGHT[name]  # from the second address
    path.write_bytes(wrong)  # as an earlier version left it
    server.script[:] = [sends(wrong)]
    with pytest.raises(DownloadError, match=f"file at {re.escape(str(path))} is a different one"):
        get(server.url(), path)
    assert os.listdir(tmp_path) == [name]
    server.script[:] = [sends(RIGHT[name])]
    assert get(server.url(), path).read_bytes() == RIGHT[name]
    server.ranges.clear()
    assert get("http://127.0.0.1:9/", path).read_bytes() == RIGHT[name]  # no network needed


def test_a_check_of_the_caller_is_asked(server, tmp_path):
    def check(path, name):
        if path.read_bytes() != b"good" or name != "x.json":
            raise ValueError("it is not good")

    with pytest.raises(DownloadError, match="it is not good, beginning with b'bad'"):
        get(server.url(sends(b"bad")), tmp_path / "x.json", check=check)
    server.script[:] = [sends(b"good")]
    assert get(server.url(), tmp_path / "x.json", check=check).read_bytes() == b"good"


# Places and arguments. ----------------------------------------------------------------------------


def test_a_folder_is_not_a_place_for_a_file(tmp_path):
    with pytest.raises(DownloadError, match="folder"):
        get("http://127.0.0.1:9/", tmp_path)


def test_a_place_that_cannot_be_written_is_a_clear_error(server, tmp_path):
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(DownloadError, match=r"cannot write .*: .*Free some space, or choose"):
        get(server.url(good), tmp_path / "file" / "below")
    assert server.ranges == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_a_clear_error(server, path):
    path.parent.mkdir()
    part_of(path).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="No space left on device"):
        get(server.url(good), path, **WANTED)
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"urls": []}, ValueError, "at least one URL"),
        ({"urls": [3]}, TypeError, "not 3"),
        ({"urls": ""}, ValueError, "https://"),
        ({"urls": "ftp://127.0.0.1/x"}, ValueError, "https://"),
        ({"urls": "file:///etc/passwd"}, ValueError, "https://"),
        ({"sha256": "abc"}, ValueError, "64 hexadecimal digits"),
        ({"size": -1}, ValueError, "size is -1"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"tries": 0}, ValueError, "tries"),
        ({"most": 0}, ValueError, "most"),
        ({"pause": -1}, ValueError, "pause"),
    ],
)
def test_arguments_that_make_no_sense_are_named(path, change, error, says):
    arguments = {"urls": "http://127.0.0.1:9/", "path": path, **change}
    with pytest.raises(error, match=says):
        fetch(**arguments)
    assert not path.parent.exists()


def test_home_is_the_checkout_or_what_the_learner_says(tmp_path, monkeypatch):
    monkeypatch.delenv("LLMLIB_HOME", raising=False)
    assert home() == Path(download.__file__).resolve().parents[2]
    monkeypatch.setenv("LLMLIB_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"LLMLIB_HOME is .* does not hold data/ and gpt2/"):
        home()
    (tmp_path / "data").mkdir()
    (tmp_path / "gpt2").mkdir()
    assert home() == tmp_path.resolve()
