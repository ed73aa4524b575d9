"""Check of exercise 10.2: a cache in pages that texts share."""

import random

import torch

from llmlib.exercises import case, exercise

RIGHT = "the right keys and pages at every step"


class Paged:
    """What 10.2 asks for; `wrong` names a mistake to make on purpose."""

    def __init__(self, memory, wrong=""):
        self.memory, self.wrong = memory, wrong
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}
        self.empty = list(range(len(memory)))
        self.n_made = 0

    def new(self):
        """Return the number of a new text."""
        self.n_made += 1
        self.tables[self.n_made], self.lengths[self.n_made] = [], 0
        return self.n_made

    def fork(self, text, n):
        """Return the number of a text that begins with n tokens of another."""
        other, size = self.new(), self.memory.shape[1]
        if self.wrong == "one table":
            self.tables[other] = self.tables[text]
        elif self.wrong == "fork copies":
            for start in range(0, n, size):
                self.tables[other].append(self.fresh(self.tables[text][start // size]))
        else:
            self.tables[other] = self.tables[text][: -(-n // size)]
        self.lengths[other] = n
        return other

    def free(self, text):
        """Forget a text; what no other text holds is empty again."""
        gone = self.tables.pop(text)
        del self.lengths[text]
        held = {page for table in self.tables.values() for page in table}
        if self.wrong == "never empty":
            return
        keep = set() if self.wrong == "empties all" else held
        self.empty += [page for page in gone if page not in keep]

    def append(self, text, key):
        """Store a key behind those of a text."""
        table, n, size = self.tables[text], self.lengths[text], self.memory.shape[1]
        if n % size == 0:
            table.append(self.fresh())
        elif self.shared(text, table[-1], n):
            if self.wrong == "half refused":
                table.append(self.fresh(table.pop()))
            else:
                table[-1] = self.fresh(table[-1])
        self.memory[table[-1], n % size] = key
        self.lengths[text] = n + 1

    def shared(self, text, page, n):
        """Tell whether a page has to be copied before a text writes its token n."""
        others = [t for t, table in self.tables.items() if t != text and page in table]
        if self.wrong == "copies too often":
            return bool(others)
        return self.wrong != "never copies" and any(self.lengths[t] > n for t in others)

    def fresh(self, like=None):
        """Return an empty page, with what another one holds."""
        if not self.empty:
            raise MemoryError("no page is left")
        page = self.empty.pop(0)
        if like is not None:
            self.memory[page] = self.memory[like]
        return page


def trace_of(make, script, n_pages, size):
    """Run a script; return the number of pages in use and each text's keys, after each step."""
    memory = torch.zeros(n_pages, size, 2)
    pages, trace = make(memory), []
    names: list = []
    lengths: list[int] = []
    for number, step in enumerate(script, 1):
        what, *rest = step.split()
        at, *n = map(int, rest) if rest else (-1,)
        refused = False
        if what in ("new", "fork"):
            names.append(pages.new() if what == "new" else pages.fork(names[at], *n))
            lengths.append(n[0] if n else 0)
        elif what == "free":
            pages.free(names[at])
            names[at] = None
        else:
            key = torch.tensor([number, -number]).float()
            try:
                pages.append(names[at], key)
                lengths[at] += 1
            except MemoryError:
                refused = True
            key.zero_()  # what is kept has to be a copy
        live = [(t, list(pages.tables[name])) for t, name in enumerate(names) if name is not None]
        n_used = len({page for _, table in live for page in table})
        rows = {t: memory[table].flatten(0, 1)[: lengths[t]] for t, table in live}
        keys = {
            t: [int(a) if a == -b else None for a, b in row.tolist()] for t, row in rows.items()
        }
        trace.append(("MemoryError" if refused else n_used, keys))
    return trace


def right_trace(script, n_pages, size):
    """Return what `trace_of` should; here a text is a list of keys and one of objects."""
    texts: list = []
    trace = []
    for number, step in enumerate(script, 1):
        what, *rest = step.split()
        at, *n = map(int, rest) if rest else (-1,)
        used = {page for text in texts if text for page in text[1]}
        note = ""
        if what == "new":
            texts.append(([], []))
        elif what == "fork":
            keys, pages = texts[at]
            texts.append((keys[: n[0]], pages[: (n[0] + size - 1) // size]))
        elif what == "free":
            texts[at] = None
        else:
            keys, pages = texts[at]
            others = [text for row, text in enumerate(texts) if text and row != at]
            whole, last = len(keys) % size == 0, pages[-1:]
            split = not whole and any(last[0] in p and len(k) > len(keys) for k, p in others)
            if (whole or split) and len(used) == n_pages:
                note = "MemoryError"
            else:
                keys.append(number)
                if whole or split:
                    pages[len(pages) - split :] = [object()]
        n_used = len({page for text in texts if text for page in text[1]})
        now = {row: list(text[0]) for row, text in enumerate(texts) if text}
        trace.append((note or n_used, now))
    return trace


def told(trace, right, script):
    """Say at which step a trace first differs from what is right."""
    for number, ((used, keys), (wanted, wanted_keys), step) in enumerate(zip(trace, right, script)):
        where = f"after step {number + 1}, {step!r}: "
        if used != wanted and "MemoryError" in (used, wanted):
            return where + ("MemoryError" if used == "MemoryError" else "no MemoryError")
        for text in wanted_keys:
            if keys.get(text) != wanted_keys[text]:
                return f"{where}text {text} reads {keys.get(text)}, not {wanted_keys[text]}"
        if used != wanted:
            return f"{where}{used} pages in use, not {wanted}"
    return RIGHT


def random_script(seed, n_pages, size, n_steps=40):
    """Return steps that make, lengthen, fork and free texts at random."""
    dice, script = random.Random(seed), ["new"]
    for _ in range(n_steps):
        texts = right_trace(script, n_pages, size)[-1][1]
        what = dice.choices(["append", "fork", "free", "new"], [12, 4, 2, 1])[0]
        if what == "new" or not texts:
            script.append("new")
            continue
        text = dice.choice(list(texts))
        n = f" {dice.randint(0, len(texts[text]))}" if what == "fork" else ""
        script.append(f"{what} {text}{n}")
    return script


MISTAKES = {
    "never copies": "a slot that another text uses was overwritten: copy the page first",
    "copies too often": "no other text has a token in that slot, so no copy is needed",
    "fork copies": "fork takes no pages: both texts hold the same ones",
    "one table": "each text needs a table of its own, or what one appends the other has too",
    "never empty": "pages that belong to no text can be taken again",
    "empties all": "a page that another text still holds was taken",
    "half refused": "an append that is refused changes nothing",
}


SCRIPTS = [
    ("new, append 0, append 0, append 0", 3, 2),
    ("new, append 0, fork 0 1, append 1, append 1, append 0", 9, 2),
    ("new, append 0, append 0, fork 0 2, append 1, append 0", 3, 4),
    ("new, append 0, append 0, append 0, fork 0 3, append 1, append 1, append 0", 9, 2),
    ("new, append 0, append 0, append 0, fork 0 1, append 1", 4, 4),
    ("new, append 0, append 0, fork 0 2, append 0, append 1", 3, 2),
    ("new, append 0, append 0, append 0, fork 0 2, free 0, append 1", 2, 4),
    ("new, append 0, append 0, free 0, new, append 1, append 1, append 1", 2, 2),
    ("new, append 0, append 0, fork 0 1, free 0, new, append 2, append 1", 2, 2),
    ("new, append 0, append 0, fork 0 1, append 1, fork 0 2, append 2, append 0", 1, 3),
    ("new, append 0, append 0, fork 0 2, free 0, new, append 2", 1, 2),
    ("new, fork 0 0, append 1, append 0, append 0", 2, 1),
]


def compared_with(right):
    """Run a script with the answer's class, and say how that differs from what is right."""

    def through(answer):
        def run(script, n_pages, size):
            return told(trace_of(answer, script, n_pages, size), right, script)

        run.__name__ = answer.__name__
        return run

    return through


@exercise("10.2")
def texts_share_pages():
    """10.2: a paged cache, which copies a page only when it has to."""
    given = [(text.split(", "), n_pages, size) for text, n_pages, size in SCRIPTS]
    for seed, n_pages in enumerate((4, 5, 6, 7, 8, 40)):
        given.append((random_script(seed, n_pages, 3), n_pages, 3))
    for script, n_pages, size in given:
        right = right_trace(script, n_pages, size)
        mistakes = {}
        for wrong, words in MISTAKES.items():
            try:
                trace = trace_of(lambda memory, w=wrong: Paged(memory, w), script, n_pages, size)
            except (MemoryError, IndexError):  # in another step
                continue
            if (found := told(trace, right, script)) != RIGHT:
                mistakes[words] = found
        yield case(
            script,
            n_pages,
            size,
            expected=RIGHT,
            saying=RIGHT,
            through=compared_with(right),
            mistakes=mistakes,
        )
