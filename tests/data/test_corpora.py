"""The corpora: names and paths become clean text, or an error that helps; with no network."""

import hashlib
import os
import re
import sys
import time
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from llmlib.data import corpora
from llmlib.data.corpora import available, documents, load, table
from llmlib.data.download import DownloadError
from llmlib.data.wiki import clean, make_wiki, prose


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data/ of our own."""
    monkeypatch.setenv("LLMLIB_HOME", str(tmp_path))
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture(scope="module")
def articles():
    return make_wiki()


# Names. -------------------------------------------------------------------------------------------


def test_the_sample_of_stories_ships_one_per_line():
    stories = documents("stories")
    assert len(stories) == 1000
    assert all(story and story == story.strip() and story.endswith(".") for story in stories)
    assert load("stories") == "\n\n".join(stories)


def test_a_missing_sample_of_stories_says_how_it_comes_back(data):
    with pytest.raises(FileNotFoundError, match="git checkout"):
        load("stories")


def test_the_python_reference_has_a_document_for_each_topic():
    topics = documents("python-docs")
    assert len(topics) > 70
    assert 400_000 < len(load("python-docs").encode()) < 700_000
    assert topics[0].startswith('The "assert" statement')


def test_a_python_without_its_reference_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ModuleNotFoundError, match="use 'wiki' instead"):
        load("python-docs")
    assert [c.here for c in available() if c.name == "python-docs"] == [False]


@pytest.mark.parametrize("name", ["wikii", "Wiki", "tiny-shakespear", "", "no such corpus"])
def test_an_unknown_name_lists_the_names_and_says_that_a_path_works_too(name):
    with pytest.raises(ValueError, match=r"There are stories, wiki, .* path of any text") as caught:
        load(name)
    near = {"wikii": "wiki", "Wiki": "wiki", "tiny-shakespear": "tiny-shakespeare"}.get(name)
    assert ("did you mean" in str(caught.value)) == bool(near)
    assert near is None or f"did you mean {near!r}" in str(caught.value)


@pytest.mark.parametrize("name", [None, 3, b"wiki", ["wiki"]])
def test_what_is_not_a_name_is_refused(name):
    with pytest.raises(TypeError, match="a name or a path"):
        load(name)


# The learner's own file. --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_gives_one_document(tmp_path, kind):
    (tmp_path / "mine.txt").write_text("Grüße,\n\nWelt 🌍\n", encoding="utf-8")
    assert documents(kind(tmp_path / "mine.txt")) == ["Grüße,\n\nWelt 🌍\n"]
    assert load(kind(tmp_path / "mine.txt")) == "Grüße,\n\nWelt 🌍\n"


def test_marks_and_line_ends_of_other_systems_vanish(tmp_path):
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert load(tmp_path / "dos.txt") == "one\ntwo\nthree\n"


def test_a_file_without_an_ending_can_be_loaded_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").write_text("a text")
    Path("wiki").write_text("not the corpus")
    assert load("mine") == "a text"
    assert load("./wiki") == "not the corpus"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"caf\xe9 au lait", r"not UTF-8: byte 3 is 0xe9\. Save it as UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9 au lait", r"not UTF-8: byte 6 is 0xe9"),
        ("utf-16".encode("utf-16-le"), "is not text: character 1 is a zero. If it is UTF-16"),
        (b"PK\3\4\0\0", "is a zip archive"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b" \n\n", "is empty"),
    ],
)
def test_a_file_that_is_not_text_says_why_and_what_to_do(tmp_path, content, says):
    (tmp_path / "file.txt").write_bytes(content)
    with pytest.raises(ValueError, match=says) as caught:
        load(tmp_path / "file.txt")
    assert str(tmp_path / "file.txt") in str(caught.value)


def test_an_empty_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="holds no text"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file .*gone\.txt: check the path"):
        load(tmp_path / "gone.txt")


# What is downloaded. ------------------------------------------------------------------------------


def downloadable(monkeypatch, **changes):
    """Let the corpus "the-verdict" come from where the test says."""
    changed = [
        replace(corpus, **changes) if corpus.name == "the-verdict" else corpus
        for corpus in corpora.CORPORA
    ]
    monkeypatch.setattr(corpora, "CORPORA", changed)


def test_a_downloaded_corpus_is_kept_and_needs_no_network_again(data, monkeypatch):
    text = b"Some story.\r\n"
    downloadable(monkeypatch, size=len(text), sha256=hashlib.sha256(text).hexdigest())
    asked = []

    def fetch(url, path, sha256, size):
        asked.append((url, path, sha256, size))
        path.write_bytes(text)
        return path

    monkeypatch.setattr(corpora, "fetch", fetch)
    assert documents("the-verdict") == ["Some story.\n"]
    assert asked[0][1:] == (data / "the-verdict.txt", hashlib.sha256(text).hexdigest(), len(text))


def test_with_no_network_the_error_names_the_address_and_the_corpora_that_need_none(
    data, monkeypatch
):
    nowhere = "http://127.0.0.1:9/the-verdict.txt"
    downloadable(monkeypatch, url=nowhere)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("llmlib.data.download.time.sleep", lambda seconds: None)
    with pytest.raises(DownloadError) as caught:
        load("the-verdict")
    for part in (nowhere, "refused", "20,479 bytes", "'wiki'", "'stories'", "'python-docs'"):
        assert part in str(caught.value)
    assert os.listdir(data) == []


def test_what_is_downloaded_is_verified_and_comes_over_tls():
    for corpus in corpora.CORPORA:
        if corpus.url:
            assert corpus.url.startswith("https://")
            assert re.fullmatch("[0-9a-f]{64}", corpus.sha256)
            assert corpus.size > 0


# What there is. -----------------------------------------------------------------------------------


def test_available_knows_what_is_here(data):
    def here():
        return {corpus.name for corpus in available() if corpus.here}

    assert here() == {"wiki", "python-docs"}
    (data / "stories.txt").write_text("A story.\n")
    (data / "tiny-shakespeare.txt").write_text("First Citizen:\n")
    assert here() == {"wiki", "python-docs", "stories", "tiny-shakespeare"}


def test_available_tells_size_and_licence(data, makes):
    known = {corpus.name: corpus for corpus in available()}
    assert list(known) == ["stories", "wiki", "python-docs", "the-verdict", "tiny-shakespeare"]
    assert all(corpus.licence and corpus.description for corpus in known.values())
    assert known["stories"].size is None
    assert known["wiki"].size is None
    assert known["python-docs"].size == len(load("python-docs").encode())
    assert known["tiny-shakespeare"].size == 1_115_394
    assert load("wiki")
    assert {c.name: c.size for c in available()}["wiki"] == len(load("wiki").encode())
    with pytest.raises(FrozenInstanceError):
        known["wiki"].size = 1


def test_the_table_has_a_line_for_each_corpus_and_fits_a_cell(data):
    lines = table().splitlines()
    assert len(lines) == 1 + len(available())
    assert max(map(len, lines)) <= 110
    for line, corpus in zip(lines[1:], available()):
        assert line.startswith(corpus.name)
        assert line.endswith(f"{corpus.licence:<14} {corpus.description}")


# Wikipedia. ---------------------------------------------------------------------------------------


def test_the_articles_are_the_same_on_every_machine(articles):
    """If you change the cleaning, change WIKI_SHA256 too, or outdated caches stay in use."""
    kept = corpora.PAGE_BREAK.join(articles).encode()
    assert hashlib.sha256(kept).hexdigest() == corpora.WIKI_SHA256
    assert len(articles) == 93
    assert 2_400_000 < len(kept) < 2_500_000


def test_no_markup_is_left_in_the_articles(articles):
    text = "\n\n".join(articles)
    for markup in ("{", "}", "[[", "]]", "|", "<", ">", "http", "&nbsp;", "&amp;", "''", "=="):
        assert markup not in text, markup
    for debris in ("( )", "()", "(,", "(;", ",)", ";)", "  ", " ,", " ;", '""', "\0", "\1", "\t"):
        assert debris not in text, debris
    assert "\f" not in text
    assert "thumb|" not in text


def test_every_paragraph_reads_as_prose(articles):
    paragraphs = [p for article in articles for p in article.split("\n\n")]
    assert len(paragraphs) > 4000
    for paragraph in paragraphs:
        assert len(paragraph.split()) >= 10
        assert "\n" not in paragraph
        assert re.search(r"[.!?][\"”')]*$", paragraph)
    assert all(len(article.split()) >= 200 for article in articles)
    assert articles[0].startswith("Anarchism is a political philosophy that advocates")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("the [[cat|small cats]] and [[dog]]s", "the small cats and dogs"),
        ("a [[wikt:plausible|plausible]] word[[fr:Mot]]", "a plausible word"),
        ("seen[[File:a.jpg|thumb|A [[cat]] asleep]] here", "seen here"),
        ("'''Bold''' and ''slanted''", "Bold and slanted"),
        ("cut<ref name=a>A [[source]] {{cite|x}}</ref> short<ref name=a /> here", "cut short here"),
        ("a <!-- secret --> word", "a word"),
        ("so<sub>2</sub> it is&nbsp;so", "so2 it is so"),
        ("about {{convert|1300|mi|km}} long", "about 1300 mi long"),
        ("from {{convert|2|to|5|km|mi}} on", "from 2 to 5 km on"),
        ("true{{citation needed|date=May 2015}} or not", "true or not"),
        ("as {{lang|fr|[[chat|le chat]]}} says", "as le chat says"),
        ("an [http://example.org example] here", "an example here"),
        ("Cats (/kæt/, {{IPA|kæt}}) are", "Cats are"),
        ("Cats {{IPAc-en|k|æ|t}}, or felines, are", "Cats, or felines, are"),
        ("Cats ({{lang-fr|chats}}; {{IPA|ʃa}}) are", "Cats are"),
    ],
)
def test_markup_becomes_the_words_it_shows(markup, text):
    begin, end = "In this sentence of many words one can read", "and then it ends."
    assert prose(f"{begin} {markup} {end}") == f"{begin} {text} {end}"


def test_a_sentence_with_a_hole_goes_and_its_neighbours_stay():
    before = "A first sentence with no hole in it at all, as you see."
    after = "The third is whole again and says something, too."
    for hole in ("<math>x^2</math>", "{{unknown|x}}", "<timeline>x</timeline>", "http://a.org"):
        assert prose(f"{before} We set {hole} to one. {after}") == f"{before} {after}"


def test_tables_lists_headings_and_appendices_are_left_out():
    kept = "This is a paragraph of prose which is long enough to be kept by the rule."
    markup = (
        "{{Infobox|a={{b}}|c=d}}\n'''KEPT'''\n{| class=x\n| KEPT\n{| inner\n| KEPT\n|}\n|}\n"
        "* KEPT\n# KEPT\n: KEPT\n; KEPT\n== History ==\nKEPT\n== See also ==\nKEPT\n"
        "=== More ===\nKEPT\n== Later ==\nKEPT\n== External links ==\nKEPT\n[[Category:Cats]]"
    )
    assert prose(markup.replace("KEPT", kept)) == "\n\n".join([kept] * 3)


@pytest.mark.parametrize(
    "markup",
    ["", "{{", "}}", "[[", "]] [[a|", "{|", "<ref>", "<math>", "\0", "((((", "= =", "|" * 99],
)
def test_broken_markup_is_neither_prose_nor_an_error(markup):
    assert prose(markup) == ""
    assert clean(markup) == ""


def test_deeply_nested_markup_does_not_take_forever():
    start = time.process_time()
    for opened, closed in (("{{a|", "}}"), ("[[a|", "]]"), ("(", ")"), ("{|\n", "\n|}")):
        prose(opened * 300 + closed * 300)
        prose(opened * 3000)
    assert time.process_time() - start < 5


# The cache of it. ---------------------------------------------------------------------------------


@pytest.fixture
def makes(monkeypatch, articles):
    """How often the articles were made, instead of read from data/wiki.txt."""
    made = []
    monkeypatch.setattr(corpora, "make_wiki", lambda: made.append(1) or articles)
    return made


def test_the_second_time_the_articles_come_from_the_cache(data, makes, articles):
    assert documents("wiki") == articles
    start = time.process_time()
    assert documents("wiki") == articles
    assert time.process_time() - start < 0.5
    assert len(makes) == 1
    assert os.listdir(data) == ["wiki.txt"]


@pytest.mark.parametrize(
    "damage",
    [lambda raw: raw[:-1], lambda raw: b"", lambda raw: b"\xff" + raw, lambda raw: raw[1:]],
)
def test_a_damaged_cache_is_noticed_and_made_again(data, makes, articles, damage):
    documents("wiki")
    cache = data / "wiki.txt"
    cache.write_bytes(damage(cache.read_bytes()))
    assert documents("wiki") == articles
    assert len(makes) == 2
    assert documents("wiki") == articles
    assert len(makes) == 2


def test_a_cache_of_another_version_is_made_again(data, makes, monkeypatch):
    documents("wiki")
    monkeypatch.setattr(corpora, "WIKI_SHA256", "0" * 64)
    documents("wiki")
    assert len(makes) == 2


def test_where_the_cache_cannot_be_written_the_articles_come_all_the_same(data, makes, articles):
    (data / "wiki.txt").mkdir()
    assert documents("wiki") == articles
    assert documents("wiki") == articles
    assert os.listdir(data) == ["wiki.txt"]


def test_where_even_the_folder_cannot_be_written_the_articles_come_all_the_same(
    data, makes, articles, monkeypatch
):
    def refused(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refused)
    assert documents("wiki") == articles
    assert os.listdir(data) == []
