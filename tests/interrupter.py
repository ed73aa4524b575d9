"""Raises an error at any line of llmlib: what Ctrl-C and a full memory do, at every moment."""

import os
import sys
from collections import Counter
from pathlib import Path

import llmlib

FOLDER = str(Path(llmlib.__file__).parent)
ALL = os.environ.get("LLMLIB_TEST_INTERRUPTS") == "1"  # every line, not a sample


class Interrupter:
    """Inside this block, an error is raised before the line `at` of llmlib runs, once.

    at: (file, line, how often it has run before), as `lines` has noted them: without `at`, nothing
    is raised. A call into torch or Python itself is part of its line.
    """

    def __init__(self, at=None, error=KeyboardInterrupt):
        self.at, self.error = at, error
        self.lines, self.seen = [], Counter()
        self.is_dropped = False  # Python drops an error in a generator that is let go of

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def trace(self, frame, event, _):
        code = frame.f_code
        if not code.co_filename.startswith(FOLDER):
            return None
        if event == "line":
            line = code.co_filename[len(FOLDER) + 1 :], frame.f_lineno
            place = *line, self.seen[line]
            self.seen[line] += 1
            self.lines.append(place)
            if place == self.at:
                self.is_dropped = isinstance(sys.exc_info()[1], GeneratorExit)
                raise self.error  # which ends the tracing: what mends it runs to its end
        return self.trace


def choose(lines, n, per_line=3):
    """Places to raise at: of each line, the first times and the last one; a sample unless ALL."""
    last = {place[:2]: place[2] for place in lines}
    chosen = [place for place in lines if place[2] < per_line - 1 or place[2] == last[place[:2]]]
    return chosen if ALL else chosen[:: max(1, len(chosen) // n)]
