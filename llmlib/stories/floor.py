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

from llmlib.stories.items import (
    Branch,
    Memory,
    Note,
    NumberSlot,
    Plan,
    WordSlot,
    follow,
    next_item,
    options_of,
)


def entropy(plan: Plan, memory: Memory) -> float:
    """Return the mean of -log_prob, in nats, over all that may follow a plan and a memory."""
    known: dict[Hashable, float] = {}

    @cache
    def slots_in(item: object) -> set[WordSlot | NumberSlot]:
        """Return the slots of an item that may have to choose."""
        if isinstance(item, Branch):
            return {s for t in item.alternatives for i in t.items for s in slots_in(i)}
        chooses = isinstance(item, WordSlot) or (isinstance(item, NumberSlot) and item.bounds)
        return {item} if chooses else set()

    @cache
    def open_slots(plan: Plan) -> list[WordSlot | NumberSlot]:
        """Return the slots ahead, one for each variable, or for each way to choose a number."""
        slots = {}
        while plan:
            item, plan = next_item(plan)
            slots.update({(s.variable, getattr(s, "bounds", None)): s for s in slots_in(item)})
        return list(slots.values())

    def nats(plan: Plan, memory: Memory) -> float:
        while plan:
            item, rest = next_item(plan)
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
        situation = (plan, *(outlook(slot, memory) for slot in open_slots(plan)))
        if situation not in known:
            alike: dict[Hashable, list] = {}
            for option in options:
                alike.setdefault(getattr(option, "kind", option), []).append(option)
            known[situation] = math.log(len(options)) + sum(
                len(group) / len(options) * nats(*follow(item, group[0], rest, memory))
                for group in alike.values()
            )
        return known[situation]

    return nats(plan, memory)


def outlook(slot: WordSlot | NumberSlot, memory: Memory) -> Hashable:
    """Return what decides what a slot may still say: how many words with which traits."""
    if slot.variable in memory.chosen:
        return None
    if isinstance(slot, WordSlot):
        return tuple(sorted(word.kind for word in slot.options(memory)))
    try:
        return tuple(slot.options(memory))
    except ValueError:  # its bounds are numbers that are chosen later
        return "later"
