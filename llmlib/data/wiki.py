"""Wikipedia's markup as plain prose, for the corpus `wiki`.

Written by hand. gensim carries the first articles of a Wikipedia dump from 2016 inside its package.
Its own cleaning leaves holes where templates and formulas were, so we clean them here. What plain
words cannot say, such as a formula, leaves a GAP, and the brackets or the sentence around it go
too: from sentences with holes a model learns to write holes. A pronunciation leaves a SOUND, which
only removes its brackets.
"""

import bz2
import html
import re

GAP, SOUND = "\0", "\1"
APPENDICES = re.compile(
    r"see also|(general )?references|(foot)?notes.*|citations|sources|bibliography|works( cited)?"
    r"|(further|additional) reading|external links|literature|gallery|filmography|discography",
    re.IGNORECASE,
)
UNSAYABLE = "math|gallery|timeline|table|pre|source|syntaxhighlight|code|imagemap|score|hiero"
NOTES = re.compile(  # templates that show no words of the sentence they stand in
    r"cn|fact|rp|sfnp?|refn|efn(-ua)?|#tag:ref|harvnb|clarify|when|who|whom|which|where|why|vague"
    r"|citation|better source|dubious|by whom|according to whom|.* needed|.*inline|.*verification"
    r"|verify source|unreliable source\??|inflation-fn|flagicon|v?anchor|clear|main|see also|-|eqm"
)
FIRST = "nowrap|angbr|small|smaller|big|large|sc|quote|abbr|linktext|vr|sic|nihongo|visible anchor"
LAST = "lang|transl|rtl-lang|resize"
# templates that show their first argument, or their last
SHOWN = dict.fromkeys(FIRST.split("|"), 0) | dict.fromkeys(LAST.split("|"), -1)
FIXED = {"nbsp": " ", "spaces": " ", "'s": "'s", "' \"": "'\"", "=": "=", "!": ""}
FIXED |= {"mdash": "—", "mdashb": "—", "ndash": "–", "snd": " – ", "snds": " – "}
FIXED |= {"spaced ndash": " – "}
UNITS = {"sqmi": "square miles", "sqkm": "square kilometres", "km2": "square kilometres"}


def make_wiki() -> list[str]:
    """Return the articles of the dump as prose, without redirects and very short ones."""
    from gensim.corpora.wikicorpus import extract_pages
    from gensim.test.utils import datapath

    dump = datapath("enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2")
    with bz2.open(dump) as file:
        pages = [text for _, text, _ in extract_pages(file, filter_namespaces=("0",))]
    articles = [prose(text) for text in pages if not re.match(r"\s*#redirect", text, re.IGNORECASE)]
    return [article for article in articles if len(article.split()) >= 200]


def prose(markup: str) -> str:
    """Return the paragraphs of an article in wiki markup as plain text."""
    text = re.sub(r"(?s)<!--.*?-->", "", markup)
    text = re.sub(r"(?si)<ref[^<>]*/>|<ref.*?</ref\s*>", "", text)
    text = re.sub(rf"(?si)<({UNSAYABLE})\b.*?</\1\s*>", GAP, text)
    before = None
    while text != before:  # from the innermost brackets outwards
        before = text
        text = re.sub(r"\[\[([^\[\]{}]*)\]\]", link, text)
        text = re.sub(r"\{\{([^{}]*)\}\}", template, text)
    while text != (text := re.sub(r"(?s)\{\|(?:(?!\{\||\|\}).)*\|\}", "", text)):
        pass  # tables, the inner ones first
    text = re.sub(r"\[(?:https?|ftp)?:?//\S+ ?([^\]]*)\]", r"\1", text)
    text = re.sub(r"<[^<>\n]*>|'''+|''|__[A-Z]+__", "", text)
    text = html.unescape(text)
    lines = (line for line in without_appendices(text) if re.match(r"[^\s*#:;|!=]", line))
    return "\n\n".join(filter(None, map(clean, lines)))


def link(match: re.Match) -> str:
    """Return the words of [[Page|words]]; nothing for a picture or a category."""
    page, pipe, words = match[1].rpartition("|")
    if re.match(r"\s*(file|image|category):", page or words, re.IGNORECASE):
        return ""
    elsewhere = not pipe and re.match(r"[a-z-]{2,12}:\S", words)  # the article in another language
    return "" if elsewhere else words.lstrip(":")


def template(match: re.Match) -> str:
    """Return the words a {{template}} would show, nothing for a note, GAP if it is unknown."""
    name, *given = (piece.strip() for piece in match[1].split("|"))
    name, words = name.lower(), [piece for piece in given if not re.match(r"[\w -]*=", piece)]
    if name in FIXED:
        return FIXED[name]
    if NOTES.fullmatch(name):
        return ""
    if name in ("convert", "cvt") and len(words) > 1:
        ranged = len(words) > 3 and words[1] in ("to", "-", "–", "and", "or", "by", "x")
        *amount, unit = words[: 4 if ranged else 2]
        return " ".join([*amount, UNITS.get(unit, unit)]).replace(" - ", "–")
    if name == "as of" and words:
        return ("as of " if "lc=y" in given else "As of ") + words[0]
    if words and name in SHOWN:
        return words[SHOWN[name]]
    return SOUND if re.match(r"ipa|respell|pron|lang-", name) else GAP


def without_appendices(text: str) -> list[str]:
    """Return the lines of an article without the sections that list what is elsewhere."""
    lines, hidden = [], 7  # headings deeper than `hidden` belong to a section left out
    for line in text.splitlines():
        if heading := re.match(r"(=+)\s*(.*?)\s*=+\s*$", line):
            depth = len(heading[1])
            if depth <= hidden:
                hidden = depth if APPENDICES.fullmatch(heading[2]) else 7
        elif hidden == 7:
            lines.append(line)
    return lines


def clean(line: str) -> str:
    """Return a paragraph without gaps and what surrounds them; "" if too little is left."""
    line = re.sub(r'https?://\S+|\[\[|\]\]|[|<>{}]|""', GAP, line).lstrip(GAP)
    while line != (line := re.sub(rf"\([^()]*[{GAP}{SOUND}][^()]*\)", "", line)):
        pass  # brackets with a gap go as a whole, from the innermost outwards
    line = re.sub(r"\(\s*[,;:]\s*", "(", line.replace(SOUND, ""))
    line = re.sub(r"[,;:]\s*\)", ")", line)
    line = re.sub(r"\(\s*\)|\[\s*\]", "", line)
    line = re.sub(r"\s+", " ", line)
    line = re.sub(r" (?=[,.;:)](?!\d|\.))|(?<=\() ", "", line).strip()
    sentences = re.split(r"(?<=[.!?])(?<!\b[A-Z]\.) (?=[\"“'(]?[A-Z])", line)
    sentences = [sentence for sentence in sentences if GAP not in sentence]
    while sentences and sentences[-1].endswith(":"):
        sentences.pop()  # it announced a list or a formula
    line = " ".join(sentences)
    whole = re.match(r"[\"“'(]*[A-Z0-9]", line) and re.search(r"[.!?][\"”')]*$", line)
    return line if whole and len(line.split()) >= 10 else ""
