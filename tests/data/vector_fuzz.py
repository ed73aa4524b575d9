"""Files of word vectors, whole and damaged, and what gensim makes of them.

`judge` compares a reader with gensim on one file: the same words and numbers, or a refusal. What
gensim reads with a loss (its holes) has to be refused; what it reads whole may be refused only for
one of the reasons in DELIBERATE.
"""

import gzip
import re
import warnings

import numpy as np
from gensim.models import KeyedVectors

FORMS = ("text", "glove", "binary", "gz")
WORDS = [
    "the",
    "sat",
    "naïve",
    "猫",
    "🙂",
    "1984",
    "0.5",
    "new",
    "york",
    "Zürich",
    "e-mail",
    ".",
    "a",
]
# what a reader may say of a file that gensim reads
DELIBERATE = (
    "more follow", "twice", "NaN or", "byte-order mark", "bytes follow", "bytes were lost",
    "line break", "there is at least 1", "it is compressed", "UTF-16", "it is a pickle",
)  # fmt: skip


def whole(rng, form):
    """A file as some program may have written it."""
    size, count = rng.choice([1, 2, 3, 4, 5, 8, 20]), rng.randint(1, 8)
    words = rng.sample(WORDS, count)
    matrix = np.float32([[rng.gauss(0, 1) for _ in range(size)] for _ in words])
    if rng.random() < 0.3:
        matrix = np.round(matrix * 4) / 4
    header = b"%d %d\n" % (count, size)
    if form == "binary":
        end = rng.choice([b"", b"\n"])
        return header + b"".join(
            word.encode() + b" " + row.tobytes() + end for word, row in zip(words, matrix)
        )
    style = rng.choice(["%r", "%.4f", "%.2e", "%d", "%.9g"])
    end = rng.choice(["\n", "\n", "\r\n", " \n"])
    lines = [" ".join([w, *(style % float(x) for x in row)]) + end for w, row in zip(words, matrix)]
    if rng.random() < 0.1:
        lines[rng.randrange(count)] = "new york " + " ".join(["0.25"] * size) + end
    text = "".join(lines).encode()
    return text if form == "glove" else header + text


SPLINTERS = [
    b"", b" ", b"  ", b"\n", b"\n\n", b"\r\n", b"\t", b"\x00", b"\xff", b"\xe9", b"\xef\xbb\xbf",
    b"nan", b"inf", b"1e39", b"1_0", b"0x1", b"-", b".", b"1", b"0.5", b"x", b"the", b". . .",
    b"\xc2\xa0", b"\xe2\x80\xa8", b"\x0b", b"\x80\x04", b"\xef\xbc\x91",
]  # fmt: skip


def damaged(rng, content):
    """The same file with one to three changes: bytes, lines, the numbers in front."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = rng.randrange(len(content) + 1)
        kind = rng.randrange(8)
        if kind == 0:
            content = content[:place] + content[place + rng.choice([1, 1, 2, 4, 9]) :]
        elif kind == 1:
            content = content[:place] + rng.choice(SPLINTERS) + content[place:]
        elif kind == 2 and place < len(content):
            content = content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
        elif kind == 3:
            content = content[:place]
        elif kind == 4:
            content += rng.choice(SPLINTERS)
        elif kind == 5:
            content = rng.choice(SPLINTERS) + content
        else:
            lines = content.splitlines(keepends=True) or [b""]
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            if kind == 6:
                lines[i] = rng.choice([lines[j], b"", lines[i] + lines[j], b"\n"])
            else:
                sizes = rng.choice(
                    [b"3 4", b"1 1", b"2 3", b"0 3", b"200000000 5", b"7 5 ", b"+3 4"]
                )
                lines[0] = sizes + b"\n"
            content = b"".join(lines)
    return content


def of_gensim(path, form, content):
    """Words and numbers as gensim reads them, or None if it cannot; and whether it lost some."""
    head = content.split(b"\n")[0].split()
    if form != "glove" and head and head[0].strip(b"+").isdigit() and int(head[0]) > 10**6:
        return None, False  # it would take the memory first, and then fail
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            vectors = KeyedVectors.load_word2vec_format(
                str(path), binary=form == "binary", no_header=form == "glove"
            )
        except Exception:
            return None, False
    words, matrix = vectors.index_to_key, vectors.vectors
    lines = [line for line in content.split(b"\n") if line.strip()]
    lost = None in words or not len(words) or not matrix.shape[1]
    if form != "binary":
        fields = {len(line.rstrip().split(b" ")) for line in lines[form == "text" :]}
        lost |= len(lines) - (form == "text") != len(words) or fields != {matrix.shape[1] + 1}
    return (words, matrix), lost


def fields_of(content):
    """The fields of the lines of a text file, read in the plainest way."""
    lines = content.decode().split("\n")
    return [line.rstrip(" \t\n\r\x0b\x0c").split(" ") for line in lines if line.strip()]


def has_header(content):
    """Whether the first line is two whole numbers, which may be a word and its number, too."""
    fields = content.split(b"\n")[0].decode(errors="replace").split()
    return len(fields) == 2 and all(re.fullmatch(r"[-+]?[\d_]+", field) for field in fields)


def is_text(content):
    """Whether a tiny binary file could be a text file: hardly a byte that text has not."""
    text = content.decode(errors="replace")
    return text.count("\ufffd") < 4 and not re.search(r"[\x00-\x08\x0e-\x1f\x7f]", text)


def judge(read, error, folder, rng, form):
    """Return what is wrong with the reader on one more file, or None."""
    content = whole(rng, "text" if form == "gz" else form)
    hit = rng.random() < 0.9
    inner = damaged(rng, content) if hit else content
    path = folder / ("v.vec.gz" if form == "gz" else "v.vec")
    path.write_bytes(gzip.compress(inner, 1) if form == "gz" else inner)
    origin = "text" if form == "gz" else form
    try:
        found = read(path)
    except error as refusal:
        theirs, lost = of_gensim(path, origin, inner)
        reason = str(refusal)
        ambiguous = (form == "glove" and has_header(inner)) or (form == "binary" and is_text(inner))
        if theirs is None or lost or ambiguous or any(words in reason for words in DELIBERATE):
            return None
        return f"refused, gensim reads it: {reason}", inner
    words, matrix = found.index_to_key, found.vectors
    if len(set(words)) != len(words) or None in words or not np.isfinite(matrix).all():
        return "words or numbers that none may have", inner
    for other in (origin, *({"text", "glove", "binary"} - {origin})):
        theirs, lost = of_gensim(path, other, inner)
        if theirs and not lost and theirs[0] == words and np.array_equal(theirs[1], matrix):
            return None
    if any(" " in word for word in words):
        lines = fields_of(inner)[-len(words) :]
        for word, row, fields in zip(words, matrix, lines, strict=True):
            same = " ".join(fields[: -len(row)]) == word
            if not same or not np.array_equal(np.float32(fields[-len(row) :]), row):
                return f"{word!r} is not what its line says", inner
        return None
    return f"read as {words}, {matrix.tolist()}", inner
