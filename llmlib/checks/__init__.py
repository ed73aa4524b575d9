"""Messages for bad input: what was given, what is allowed, what to do.

Written by hand. Checks stand at the doors (constructors of configurations, readers of files, the
public entry of a loop, the command line), so that the code behind them carries nothing but ideas.
Each function returns nothing, or the checked value, and raises TypeError or ValueError.

One file for each room; this one is their table of contents, so that a caller writes
`checks.whole_number(...)`, and a reader sees that the line is a check.
"""

from llmlib.checks.batches import *
from llmlib.checks.chats import *
from llmlib.checks.checkpoint import *
from llmlib.checks.data import *
from llmlib.checks.downloads import *
from llmlib.checks.families import *
from llmlib.checks.files import *
from llmlib.checks.generation import *
from llmlib.checks.gguf import *
from llmlib.checks.loss import *
from llmlib.checks.model import *
from llmlib.checks.modern import *
from llmlib.checks.prepared import *
from llmlib.checks.pretrained import *
from llmlib.checks.runs import *
from llmlib.checks.texts import *
from llmlib.checks.tokenization import *
from llmlib.checks.tokenizer_files import *
from llmlib.checks.tokenizer_json import *
from llmlib.checks.training import *
from llmlib.checks.values import *
from llmlib.checks.vector_files import *
from llmlib.checks.weights import *
from llmlib.checks.word_vectors import *
