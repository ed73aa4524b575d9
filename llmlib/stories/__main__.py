"""Write the sample of the story world: `python -m llmlib.stories > data/stories.txt`."""

import sys

from llmlib.stories import sample

sys.stdout.buffer.write(sample().encode())  # the same bytes on every system
