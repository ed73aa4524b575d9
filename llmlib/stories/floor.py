"""The entropy of a story world, computed exactly.

Written by hand. The entropy of a choice between n options is log(n) plus the mean entropy of what
each option leaves to tell (the chain rule: Shannon 1948, section 6). A world has far too many
stories to visit them all, but most of what is said is never used again. Two situations are the same
if the same is left to say, and if every slot that has yet to choose has equally many words with the
same traits to choose from. The default world has only some thousands of them.
"""

import math
from collections.abc import Hashable
from functools import cache
from typing import Any

from llmlib.stories.items import Branch, Items, Memory, Note, Slot, follow, options_of
from llmlib.stories.text import group


def entropy(plan: Items, memory: Memory) -> float:
    """Return the mean of -log_prob, in nats, over all that may follow a plan and a memory."""
    known: dict[Hashable, float] = {}

    @cache
    def open_slots(plan: Items) -> dict[Hashable, Slot]:
        """Return the slots ahead that may choose: one for each variable, or way to choose it."""
        slots = {}
        for item in plan:
            if isinstance(item, Branch):
                for option in item.alternatives:
                    slots |= open_slots(option)
            elif isinstance(item, Slot) and item.bounds is not None:
                slots[item.variable, item.bounds] = item
        return slots

    def nats(plan: Items, memory: Memory) -> float:
        """Return the entropy of all that is left to say."""
        while plan:
            item, rest = plan[0], plan[1:]
            if isinstance(item, Note):
                memory = item.write(memory)
            elif not isinstance(item, str):
                options = options_of(item, memory)
                if len(options) > 1:
                    break
                rest, memory = follow(item, options[0], rest, memory)
            plan = rest
        else:
            return 0.0
        situation = (plan, *(outlook(slot, memory) for slot in open_slots(plan).values()))
        if situation not in known:
            known[situation] = math.log(len(options)) + sum(
                len(alike) / len(options) * nats(*follow(item, alike[0], rest, memory))
                for alike in group((kind_of(option), option) for option in options).values()
            )
        return known[situation]

    return nats(plan, memory)


def kind_of(option: Any) -> Any:
    """Return what options have in common if it makes no difference which of them is chosen."""
    return getattr(option, "kind", option)


def outlook(slot: Slot, memory: Memory) -> Hashable:
    """Return what decides what a slot may still say: how many words with which traits."""
    if slot.variable in memory.chosen:
        return None
    try:
        return tuple(sorted(map(kind_of, slot.options(memory))))
    except ValueError:  # its bounds are numbers that are chosen later
        return "later"
