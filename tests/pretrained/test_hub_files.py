"""A model of the hub from a server on this machine: pinned, resumed, and verified twice."""

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import KINDS

from llmlib.__main__ import main
from llmlib.data.download import DownloadError
from llmlib.pretrained import hub_files, places
from llmlib.pretrained.hub_files import REPOSITORIES, Repository, download_model
from llmlib.pretrained.models import find_model, load_model
from llmlib.pretrained.places import find_folder
from llmlib.tokenization.bpe import BPETokenizer

NAME, REVISION = "smollm2-135m", "r" * 40
QUICK = {"progress": False, "tries": 1, "pause": 0.01, "timeout": 5.0}


def facts(body):
    return len(body), hashlib.sha256(body).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """As the hub does: headers and a redirect for a large file, the bytes elsewhere."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        self.server.asked.append((self.command, self.path, self.headers["Range"]))
        name = self.path.rsplit("/", 1)[-1]
        whole = self.server.files.get(name)
        if whole is None or (name == self.server.missing and body):
            return self.reply(404, b"", body)
        size, sha256 = facts(whole)
        said = {"X-Repo-Commit": REVISION, "ETag": '"0123456789"'} | self.server.said
        if self.path.startswith("/store/"):
            start = int(re.findall(r"\d+", self.headers["Range"] or "0")[0])
            sent = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
            cut = whole[start : self.server.cut] if self.server.cut else whole[start:]
            self.server.cut = None
            return self.reply(206 if start else 200, cut, body, len(whole) - start, **sent)
        if name == "model.safetensors":
            linked = {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{sha256}"'} | said
            return self.reply(302, b"", body, Location=f"/store/{name}", **linked)
        return self.reply(200, whole, body, **said)

    def reply(self, code, data, body, length=None, **headers):
        self.send_response(code)
        for key, value in {"Content-Length": str(length or len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)
            self.close_connection = bool(length) and length != len(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server with a tiny Llama, and an empty home, both under the name of the real one."""
    for name in ("data", "gpt2"):
        (tmp_path / "home" / name).mkdir(parents=True)
    monkeypatch.setenv("LLMLIB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = tmp_path / "source"
    KINDS["llama"].make(vocab_size=260).save_pretrained(source)
    tokenizer = BPETokenizer.train("ab", 257, special_tokens=["<|endoftext|>"])
    tokenizer.save(source / "tokenizer.json")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {path.name: path.read_bytes() for path in source.iterdir()}
    server.asked, server.said, server.cut, server.missing = [], {}, None, None
    server.place, server.source = tmp_path / "home" / "models" / NAME, source
    known = dict.fromkeys(sorted(server.files, key=len), (None, None))
    server.repository = Repository("owner/tiny", REVISION, known, "or ask a friend")
    monkeypatch.setitem(REPOSITORIES, NAME, server.repository)
    monkeypatch.delitem(places.PACKAGES, NAME)  # whatever is installed here
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub_files, "HUB", server.url)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(hub, **known):
    hub.repository.files.update(known)
    return download_model(NAME, address=hub.url, **QUICK)


def test_a_whole_model_is_downloaded_and_loaded_by_its_name(hub):
    with pytest.raises(FileNotFoundError, match="run `llmlib download smollm2-135m`, or ask"):
        load_model(NAME)
    assert get(hub) == hub.place == find_model(NAME) == find_folder(NAME)
    assert {p.name: p.read_bytes() for p in hub.place.iterdir()} == hub.files
    paths = {path for _, path, _ in hub.asked if not path.startswith("/store")}
    assert paths == {f"/owner/tiny/resolve/{REVISION}/{name}" for name in hub.files}
    model, tokenizer = load_model(NAME)
    assert tokenizer.vocab_size == 257 and model.config.n_kv_heads == 2


def test_what_is_known_and_there_needs_no_network(hub):
    get(hub, **{name: facts(body) for name, body in hub.files.items()})
    hub.asked.clear()
    get(hub)
    assert not hub.asked


def test_what_is_there_and_not_known_is_compared_with_what_the_hub_states(hub):
    """A file of the right size with other bytes, whose hash is not known here."""
    weights = get(hub) / "model.safetensors"
    size = len(hub.files[weights.name])
    weights.write_bytes(bytes(size))
    get(hub, **{weights.name: (size, None)})
    assert weights.read_bytes() == hub.files[weights.name]
    hub.said = {"X-Linked-Etag": f'"{hashlib.sha256(b"other").hexdigest()}"'}
    with pytest.raises(DownloadError, match=r"sha256 .* instead of"):
        get(hub)


def test_an_interrupted_download_goes_on_where_it_was(hub):
    hub.cut = 1000
    with pytest.raises(DownloadError, match="1,000 bytes are here"):
        get(hub)
    get(hub)
    assert (hub.place / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert ("GET", "/store/model.safetensors", "bytes=1000-") in hub.asked


def test_what_arrives_is_compared_with_the_hash_that_the_hub_states(hub):
    tensors = load_file(hub.source / "model.safetensors")
    save_file({n: torch.zeros_like(t) for n, t in tensors.items()}, hub.source / "other")
    changed = (hub.source / "other").read_bytes()
    hub.said = {"X-Linked-Etag": f'"{hashlib.sha256(changed).hexdigest()}"'}
    with pytest.raises(DownloadError, match=r"sha256 .* instead of"):
        get(hub)
    assert not (hub.place / "model.safetensors").exists()


@pytest.mark.parametrize("wrong", [(None, "0" * 64), (5, None)])
def test_a_file_that_was_replaced_is_not_taken(hub, wrong):
    with pytest.raises(DownloadError, match="it was replaced"):
        get(hub, **{"model.safetensors": wrong})
    assert not (hub.place / "model.safetensors").exists()


def test_a_small_file_is_compared_with_the_hash_that_is_known(hub):
    body = hub.files["config.json"]
    with pytest.raises(DownloadError, match=r"config\.json"):
        get(hub, **{"config.json": facts(body.replace(b"silu", b"relu"))})
    assert not (hub.place / "config.json").exists()


def test_another_revision_is_not_taken(hub):
    hub.said = {"X-Repo-Commit": "s" * 40}
    with pytest.raises(DownloadError, match=f"revision {'s' * 40}, and {REVISION} was asked for"):
        get(hub)
    assert not hub.place.exists() or not [*hub.place.iterdir()]


def test_a_file_that_is_damaged_here_is_downloaded_again(hub):
    known = {name: facts(body) for name, body in hub.files.items()}
    get(hub, **known)
    path = hub.place / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    get(hub)
    assert path.read_bytes() == hub.files["model.safetensors"]


def test_a_hub_that_does_not_answer_is_named(hub):
    del hub.files["config.json"]
    with pytest.raises(DownloadError, match=r"config\.json: HTTP 404"):
        get(hub)
    hub.shutdown()
    hub.server_close()
    with pytest.raises(DownloadError, match="could not ask for"):
        get(hub)


def test_the_command_brings_it(hub, capsys):
    assert main(["download", NAME]) == 0
    out = capsys.readouterr().out
    assert str(hub.place) in out and f"--checkpoint {NAME}" in out
    assert main(["download", NAME, "--source", "openai"]) != 0
    assert "huggingface" in capsys.readouterr().err


def test_what_is_pinned_is_a_revision_and_whole_hashes():
    for repository in REPOSITORIES.values():
        assert re.fullmatch("[0-9a-f]{40}", repository.revision)
        for size, sha256 in repository.files.values():
            assert size > 0 and re.fullmatch("[0-9a-f]{64}", sha256)
        weights, _ = repository.files["model.safetensors"]
        assert weights == max(size for size, _ in repository.files.values())
    # two bytes a parameter, and a header of names
    assert 0 < REPOSITORIES[NAME].files["model.safetensors"][0] - 2 * 134_515_008 < 50_000
    with pytest.raises(ValueError, match="smollm2-135m"):
        download_model("smollm2")
