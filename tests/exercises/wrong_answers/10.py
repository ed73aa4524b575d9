"""Plausible wrong answers to the exercises of notebook 10: each must be refused."""

import math

import torch


def shared(a, b):
    n = 0
    while n < min(len(a), len(b)) and a[n] == b[n]:
        n += 1
    return n


def takes_over_nothing(prompts):
    return sum(map(len, prompts))


def does_not_read_the_last_token(prompts):
    longest = [max((shared(p, q) for q in prompts[:n]), default=0) for n, p in enumerate(prompts)]
    return sum(len(p) - n for p, n in zip(prompts, longest))


def looks_at_the_prompt_before(prompts):
    total, before = 0, []
    for prompt in prompts:
        total += len(prompt) - min(shared(prompt, before), len(prompt) - 1)
        before = prompt
    return total


def shares_tokens_anywhere(prompts):
    total, known = 0, set()
    for prompt in prompts:
        total += max(1, sum(token not in known for token in prompt))
        known |= set(prompt)
    return total


def takes_the_first_that_is_shared(prompts):
    total = 0
    for n, prompt in enumerate(prompts):
        found = next((m for q in prompts[:n] if (m := shared(prompt, q))), 0)
        total += len(prompt) - min(found, len(prompt) - 1)
    return total


class Pages:
    """A right answer to 10.2, in parts that wrong ones replace."""

    def __init__(self, memory):
        self.memory, self.tables, self.lengths = memory, {}, {}
        self.empty, self.number = set(range(len(memory))), 0

    def new(self):
        self.number += 1
        self.tables[self.number], self.lengths[self.number] = [], 0
        return self.number

    def fork(self, text, n):
        other = self.new()
        self.tables[other] = self.beginning(self.tables[text], -(-n // self.memory.shape[1]))
        self.lengths[other] = n
        return other

    def beginning(self, table, n):
        return table[:n]

    def free(self, text):
        table = self.tables.pop(text)
        del self.lengths[text]
        self.give_back(table)

    def give_back(self, table):
        self.empty |= set(table) - {page for other in self.tables.values() for page in other}

    def page(self):
        if not self.empty:
            raise MemoryError
        return self.empty.pop()

    def must_copy(self, text, page, n):
        return any(
            page in table and self.lengths[other] > n for other, table in self.tables.items()
        )

    def append(self, text, key):
        table, n, size = self.tables[text], self.lengths[text], self.memory.shape[1]
        if n % size == 0:
            table.append(self.page())
        elif self.must_copy(text, table[-1], n):
            self.copy(table)
        self.memory[table[-1], n % size] = key
        self.lengths[text] = n + 1

    def copy(self, table):
        page = self.page()
        self.memory[page] = self.memory[table[-1]]
        table[-1] = page


class NeverCopies(Pages):
    def must_copy(self, text, page, n):
        return False


class CopiesWhatIsShared(Pages):
    def must_copy(self, text, page, n):
        return sum(page in table for table in self.tables.values()) > 1


class CopiesInFork(Pages):
    def beginning(self, table, n):
        copied = []
        for page in table[:n]:
            copied.append(self.page())
            self.memory[copied[-1]] = self.memory[page]
        return copied


class SharesTheTable(Pages):
    def beginning(self, table, n):
        return table


class NeverGivesBack(Pages):
    def give_back(self, table):
        pass


class GivesAllBack(Pages):
    def give_back(self, table):
        self.empty |= set(table)


class LosesAPage(Pages):
    def copy(self, table):
        old = table.pop()
        table.append(self.page())
        self.memory[table[-1]] = self.memory[old]


class ForgetsToCopyTheKeys(Pages):
    def copy(self, table):
        table[-1] = self.page()


class CountsFreedTexts(Pages):
    def free(self, text):
        self.give_back(self.tables[text])


def has_a_scale_for_each_row(weight, group):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


def has_one_scale(weight, group):
    scale = weight.abs().max() / 127
    return (weight / scale).round() * scale


def divides_zero_by_zero(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True) / 127
    return ((parts / scale).round() * scale).view_as(weight)


def cuts_off(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
    return ((parts / scale).trunc() * scale).view_as(weight)


def goes_to_128(weight, group):
    parts = weight.view(len(weight), -1, group)
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 128
    return ((parts / scale).round() * scale).view_as(weight)


def groups_the_rows(weight, group):
    return divides_zero_by_zero(weight.T.contiguous().view(-1, weight.shape[1]), group)


def serve_in_batches(step, prompts, slots, stop, most, keep=False):
    done = []
    for at in range(0, len(prompts), slots):
        texts = [list(prompt) for prompt in prompts[at : at + slots]]
        ends = [len(text) + most for text in texts]
        going = list(range(len(texts)))
        while going:
            asked = range(len(texts)) if keep else going
            for row, token in zip(asked, step([texts[row] for row in asked])):
                if row in going:
                    texts[row].append(token)
            going = [r for r in going if texts[r][-1] != stop and len(texts[r]) < ends[r]]
        done += texts
    return done


def waits_for_the_batch(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, slots, stop, most)


def asks_for_finished_rows(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, slots, stop, most, keep=True)


def takes_all_at_once(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, len(prompts), stop, most)


def serve_at_once(step, prompts, slots, stop, most):
    waiting, going, finished = list(enumerate(prompts)), [], []
    while waiting or going:
        while waiting and len(going) < slots:
            row, prompt = waiting.pop(0)
            going.append((row, list(prompt)))
        for (_, text), token in zip(going, step([text for _, text in going])):
            text.append(token)
        ended = [
            (row, text)
            for row, text in going
            if text[-1] == stop or len(text) == len(prompts[row]) + most
        ]
        finished += ended
        going = [item for item in going if item not in ended]
    return finished


def returns_them_as_they_end(step, prompts, slots, stop, most):
    return [text for _, text in serve_at_once(step, prompts, slots, stop, most)]


def drops_the_prompts(step, prompts, slots, stop, most):
    texts = sorted(serve_at_once(step, prompts, slots, stop, most))
    return [text[len(prompts[row]) :] for row, text in texts]


def drops_the_stop(step, prompts, slots, stop, most):
    texts = sorted(serve_at_once(step, prompts, slots, stop, most))
    return [text[:-1] if text[-1] == stop else text for _, text in texts]


def serves_one_at_a_time(step, prompts, slots, stop, most):
    return serve_in_batches(step, prompts, 1, stop, most)


def decodes_each_piece(pieces):
    return [piece.decode(errors="replace") for piece in pieces] + [""]


def forgets_the_rest(pieces):
    return wait_for_all(pieces)[:-1]


def wait_for_all(pieces):
    shown, data = [], b""
    for piece in pieces:
        data += piece
        try:
            shown.append(data.decode())
            data = b""
        except UnicodeDecodeError:
            shown.append("")
    return [*shown, data.decode(errors="replace")]


def waits_for_bytes_that_are_broken(pieces):
    return wait_for_all(pieces)


def loses_what_is_broken(pieces):
    return [piece.decode(errors="ignore") for piece in pieces] + [""]


def tree_reader(mask="tree", by_depth=True, twins=True, extra=1, move=True, forget=True):
    """A right answer to 10.6, and with other settings wrong ones."""

    def read_tree(model, cache, last, tokens, parents):
        n_old, n = cache.length, 1 + len(tokens)
        sees = torch.eye(n, dtype=torch.bool)
        for node, parent in enumerate(parents, 1):
            sees[node] |= sees[parent + 1]
        depth = sees.sum(dim=1) - 1 if by_depth else torch.arange(n)
        if mask == "causal":
            sees = torch.ones(n, n, dtype=torch.bool).tril()
        old = torch.full((n, n_old), mask != "new only")

        class Tree:
            length, positions = n_old, n_old + depth
            mask = torch.cat([old, sees], dim=1)[None, None]

            def grow(self, batch_size, n_new, segments=None):
                cache.grow(batch_size, n_new)

            def update(self, layer, k, v):
                return *cache.update(layer, k, v)[:2], self.mask

        said = model(torch.tensor([[last, *tokens]]), Tree())[0].argmax(-1).tolist()
        path, tried = [0], {0: [0]}
        for node, (token, parent) in enumerate(zip(tokens, parents), 1):
            before = tried.get(parent + 1)
            is_new = twins or all(before != other[:-1] for other in tried.values())
            if before and said[parent + 1] == token and is_new:
                tried[node] = [*before, node]
        path = max(tried.values(), key=len)
        slots = [n_old + node for node in path]
        if move:
            cache.data[..., n_old : n_old + len(path), :] = cache.data[..., slots, :]
        if forget:
            cache.rewind(n_old + len(path))
        return [said[node] for node in path][: len(path) - 1 + extra]

    return read_tree


def named(name, answer):
    answer.__name__ = name
    return answer


def reads_branch_by_branch(model, cache, last, tokens, parents):
    n_old, best = cache.length, []
    branches = []
    for token, parent in zip(tokens, parents):
        branches.append([*(branches[parent] if parent >= 0 else []), token])
    for branch in [[], *branches]:
        said = model(torch.tensor([[last, *branch]]), cache)[0].argmax(-1).tolist()
        cache.rewind(n_old)
        if branch == said[:-1] and len(said) > len(best):
            best = said
    model(torch.tensor([[last, *best[:-1]]]), cache)
    return best


def keeps_only_last(model, cache, last, tokens, parents):
    n_old = cache.length
    said = tree_reader()(model, cache, last, tokens, parents)
    cache.rewind(n_old + 1)
    return said


def is_greedy(next_probs, n):
    text = ()
    for _ in range(n):
        probs = next_probs(text)
        text += (probs.index(max(probs)),)
    return text


def has_a_beam_of_two(next_probs, n):
    beams = [((), 1.0)]
    for _ in range(n):
        longer = [((*t, i), p * q) for t, p in beams for i, q in enumerate(next_probs(t))]
        beams = sorted(longer, key=lambda beam: -beam[1])[:2]
    return beams[0][0]


def tries_all_texts(next_probs, n):
    texts = {(): 0.0}
    for _ in range(n):
        texts = {
            (*text, i): total + math.log(max(p, 1e-300))
            for text, total in texts.items()
            for i, p in enumerate(next_probs(text))
        }
    return max(texts, key=texts.get)


WRONG = {
    "10.1": [
        takes_over_nothing,
        does_not_read_the_last_token,
        looks_at_the_prompt_before,
        shares_tokens_anywhere,
        takes_the_first_that_is_shared,
    ],
    "10.2": [
        NeverCopies,
        CopiesWhatIsShared,
        CopiesInFork,
        SharesTheTable,
        NeverGivesBack,
        GivesAllBack,
        LosesAPage,
        ForgetsToCopyTheKeys,
        CountsFreedTexts,
    ],
    "10.3": [
        has_a_scale_for_each_row,
        has_one_scale,
        divides_zero_by_zero,
        cuts_off,
        goes_to_128,
        groups_the_rows,
    ],
    "10.4": [
        waits_for_the_batch,
        asks_for_finished_rows,
        takes_all_at_once,
        returns_them_as_they_end,
        drops_the_prompts,
        drops_the_stop,
        serves_one_at_a_time,
    ],
    "10.5": [
        decodes_each_piece,
        forgets_the_rest,
        waits_for_bytes_that_are_broken,
        loses_what_is_broken,
    ],
    "10.6": [
        named("sees_other_branches", tree_reader(mask="causal")),
        named("sees_no_text", tree_reader(mask="new only")),
        named("counts_in_order", tree_reader(by_depth=False)),
        named("follows_the_first_twin", tree_reader(twins=False)),
        named("forgets_the_extra_token", tree_reader(extra=0)),
        named("moves_no_keys", tree_reader(move=False)),
        named("keeps_refused_drafts", tree_reader(forget=False)),
        keeps_only_last,
        reads_branch_by_branch,
    ],
    "10.7": [is_greedy, has_a_beam_of_two, tries_all_texts],
}
