# From notebooks/10_inference.ipynb: edit there, then run make export.

"""Text from a GPT as fast as its weights can be read: a cache of keys and values, and what uses it.

Built in notebook 10. `Decoder` holds a model's weights packed for reading and computes each token
once; `stream` and `generate` choose from what it says, by `llmlib.generation.sampling`. Left
out: many users at once, who come and go, with a cache in pages (Kwon and others 2023).

Shapes: B rows in a batch, T tokens, V = vocab_size, L = n_layers, H = n_heads of D numbers.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from llmlib.generation.quantization import BYTES, check_format, pack_linear, vector_dtype
from llmlib.generation.sampling import Sampling, draw, make_sampling, one_generator_per_row
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT


def cache_bytes(config: GPTConfig, n_tokens: int, batch_size: int = 1, number: int = 4) -> int:
    """Bytes of a cache: a key and a value, in each layer, for each token; `number` bytes each."""
    return 2 * config.n_layers * batch_size * n_tokens * config.emb_dim * number


class KVCache:
    """The keys and values (L, 2, B, H, T, D) of the tokens read so far, with room for T.

    length: how many of the T places are filled. padding: (B,), how many of a row's first places
    hold no token, or None. Raises ValueError for a size that is impossible.
    """

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        n_tokens: int,
        padding: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if batch_size < 1 or not 1 <= n_tokens <= config.context_length:
            raise ValueError(
                f"a cache for {batch_size} rows of {n_tokens} tokens: give at least one row, and "
                f"1 to {config.context_length} tokens, the model's context_length"
            )
        head_dim = config.emb_dim // config.n_heads
        shape = (config.n_layers, 2, batch_size, config.n_heads, n_tokens, head_dim)
        self.data = torch.zeros(shape, dtype=dtype, device=device)
        self.length = 0
        self.padding = padding if padding is not None and padding.any() else None

    @property
    def room(self) -> int:
        """How many more tokens fit."""
        return self.data.shape[4] - self.length

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` tokens. Raises ValueError where there are fewer."""
        if not 0 <= length <= self.length:
            raise ValueError(f"the cache holds {self.length} tokens: it cannot keep {length}")
        self.length = length

    def select(self, rows: torch.Tensor) -> None:
        """Make row i what row rows[i] was: drops, repeats or reorders rows."""
        self.data = self.data[:, :, rows]
        self.padding = None if self.padding is None else self.padding[rows]

    def mask(self, n_new: int) -> torch.Tensor | None:
        """Which places n_new tokens see: (B or 1, 1, n_new, T so far); None where all see all."""
        if n_new == 1 and self.padding is None:
            return None
        device, end = self.data.device, self.length + n_new
        place = torch.arange(end, device=device)
        query = place[self.length :, None]
        sees = (place <= query)[None]
        if self.padding is not None:  # a place without a token sees itself: of nothing there is nan
            sees = sees & ((place >= self.padding[:, None, None]) | (place == query))
        return sees[:, None]


class Decoder:
    """A GPT that remembers: it reads each token once, and keeps its keys and values in a cache.

    model: a GPT, which stays as it is; weights: the format that they are stored in, "float32",
    "bfloat16", "float16" or "int8" (see `llmlib.generation.quantization`). It has no dropout and no
    gradients. Raises TypeError for what is no GPT and ValueError for another format.

    >>> decoder = Decoder(GPT(GPTConfig.preset("story-tiny")))
    >>> cache = decoder.new_cache(batch_size=1, n_tokens=8)
    >>> decoder.read(torch.tensor([[1, 2, 3]]), cache).shape, cache.length
    (torch.Size([1, 512]), 3)
    """

    check_ids = GPT.check_ids  # it needs config and wte, which have the same names here

    @torch.no_grad()
    def __init__(self, model: GPT, weights: str = "float32"):
        if not isinstance(model, GPT):
            raise TypeError(f"a Decoder is made of a GPT, not of a {type(model).__name__}")
        check_format(weights)
        self.config, self.weights, self.dtype = model.config, weights, vector_dtype(weights)
        table = model.wte.weight.detach()
        # one row of it is read a token: two bytes for each number save room, not time
        table = table.to(torch.float16 if weights in ("float16", "int8") else self.dtype)
        self.wte, self.wpe = nn.Embedding.from_pretrained(table), model.wpe.weight.detach()
        self.blocks = [
            (
                self.norm(block.ln_1),
                self.pack(block.attn.c_attn),
                self.pack(block.attn.c_proj),
                self.norm(block.ln_2),
                self.pack(block.mlp.c_fc),
                self.pack(block.mlp.c_proj),
            )
            for block in model.h
        ]
        self.ln_f = self.norm(model.ln_f)
        self.head = pack_linear(model.head_weight, None, weights)
        in_blocks = sum(p.numel() for p in model.h.parameters() if p.ndim == 2)
        self.bytes_read = (in_blocks + model.head_weight.numel()) * BYTES[weights]  # for each token

    def norm(self, norm: nn.LayerNorm) -> Callable:
        """A layer normalization that gives what the packed products take."""
        settings = norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps
        return lambda x: F.layer_norm(x, *settings).to(self.dtype)

    def pack(self, linear: nn.Linear) -> Callable:
        """A linear layer with its weight packed."""
        return pack_linear(linear.weight, linear.bias, self.weights)

    def new_cache(
        self, batch_size: int, n_tokens: int, padding: torch.Tensor | None = None
    ) -> KVCache:
        """An empty cache that fits."""
        device = self.wpe.device
        return KVCache(self.config, batch_size, n_tokens, padding, self.dtype, device)

    def check_room(self, ids: torch.Tensor, cache: KVCache) -> None:
        """Raise ValueError unless ids (B, T) fit in the cache."""
        if len(ids) != cache.data.shape[2]:
            raise ValueError(f"{len(ids)} rows of ids, but the cache is for {cache.data.shape[2]}")
        if ids.shape[1] > cache.room:
            raise ValueError(
                f"{ids.shape[1]} tokens more than the {cache.length} in the cache do not fit: it "
                f"has room for {cache.room}; make a larger one, up to the model's context_length "
                f"of {self.config.context_length}, or read a shorter window anew"
            )

    @torch.inference_mode()
    def read(self, ids: torch.Tensor, cache: KVCache, every: bool = False) -> torch.Tensor:
        """Read ids (B, T) behind what is in the cache: logits (B, V) for what follows, in float32.

        every: logits after each of the T tokens, (B, T, V). Raises as `GPT.check_ids` does, and
        ValueError where ids do not fit in the cache.
        """
        self.check_ids(ids)
        self.check_room(ids, cache)
        B, T = ids.shape
        start, end = cache.length, cache.length + T
        x = (self.wte(ids) + self.positions(cache, end)).float()  # (B, T, C)
        causal = start == 0 and cache.padding is None and T > 1
        mask = None if causal else cache.mask(T)
        heads = (B, T, 3, self.config.n_heads, -1)
        for stored, (ln_1, c_attn, attn_proj, ln_2, c_fc, mlp_proj) in zip(cache.data, self.blocks):
            qkv = c_attn(ln_1(x)).view(heads).permute(2, 0, 3, 1, 4)  # (3, B, H, T, D)
            stored[..., start:end, :] = qkv[1:]
            k, v = stored[..., :end, :].unbind(0)  # (B, H, all tokens so far, D)
            out = F.scaled_dot_product_attention(qkv[0], k, v, attn_mask=mask, is_causal=causal)
            x = x + attn_proj(out.transpose(1, 2).reshape(x.shape))
            x = x + mlp_proj(F.gelu(c_fc(ln_2(x)), approximate="tanh"))
        cache.length = end
        return self.head(self.ln_f(x if every else x[:, -1])).float()

    def positions(self, cache: KVCache, end: int) -> torch.Tensor:
        """Position vectors for the places from the end of the cache: they count tokens only."""
        if cache.padding is None:
            return self.wpe[cache.length : end]
        place = torch.arange(cache.length, end, device=self.wpe.device)
        return self.wpe[(place - cache.padding[:, None]).clamp(min=0)]  # (B, T, C)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V) as the model gives them, with nothing remembered."""
        self.check_ids(ids)
        return self.read(ids, self.new_cache(*ids.shape), every=True)


def pad_left(prompts: torch.Tensor | Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts of any lengths -> ids (B, T) with 0 before the shorter ones, and how many (B,).

    Raises TypeError or ValueError for what is not ids, or no prompt, or one without a token.

    >>> pad_left([[5, 6, 7], [8]])
    (tensor([[5, 6, 7],
            [0, 0, 8]]), tensor([0, 2]))
    """
    if isinstance(prompts, torch.Tensor):
        if prompts.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids hold {prompts.dtype}: token ids are torch.int64 (or int32)")
        if prompts.ndim != 2 or prompts.numel() == 0:
            raise ValueError(
                f"ids have shape {tuple(prompts.shape)}, expected (batch, tokens) with at least "
                "one token, such as the one for the end of a text"
            )
        return prompts, prompts.new_zeros(len(prompts))
    try:
        rows = [torch.tensor(list(prompt)) for prompt in prompts]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError("prompts must be ids (B, T), or a list of lists of ids") from error
    if not rows or any(len(row) == 0 for row in rows):
        raise ValueError("give at least one prompt, and at least one token in each")
    if any(row.dtype != torch.int64 for row in rows):
        raise TypeError("prompts hold other things than token ids, which are of type int")
    longest = max(map(len, rows))
    padding = torch.tensor([longest - len(row) for row in rows])
    return torch.stack([F.pad(row, (longest - len(row), 0)) for row in rows]), padding


def stream(
    model: GPT | Decoder,
    ids: torch.Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    stop: int | None = None,
    generator: torch.Generator | None = None,
    slide: int | None = None,
    **sampling: float | None,
) -> Iterator[torch.Tensor]:
    """Continue prompts and yield the new tokens (B,) one step at a time, as they are chosen.

    model: a Decoder, or a GPT, of which one is made. ids: (B, T), or a list of prompts of unequal
    length. stop: the id after which a row is finished; a finished row repeats it, and the last row
    to finish ends the stream. generator: gives each row a generator of its own, so that a row's
    text does not depend on how many there are. slide: how many of the oldest tokens to forget where
    the context is full; what is left is read anew. sampling: the fields of `Sampling`.
    Raises TypeError and ValueError at once, also where the context would not be enough.
    """
    settings = make_sampling(sampling)
    decoder = model if isinstance(model, Decoder) else Decoder(model)
    ids, padding = (part.to(decoder.wpe.device) for part in pad_left(ids))
    context_length = decoder.config.context_length
    if type(max_new_tokens) is not int or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens!r}: it must be an int of at least 0")
    if stop is not None and (type(stop) is not int or stop < 0):
        raise ValueError(f"stop is {stop!r}: it must be a token id, or None")
    if slide is not None and (type(slide) is not int or not 1 <= slide <= context_length):
        raise ValueError(f"slide is {slide!r}: it must be an int from 1 to {context_length}")
    if slide is None:
        check_context(ids.shape[1], max_new_tokens, context_length)
    decoder.check_ids(ids[:, :context_length])
    generators = one_generator_per_row(len(ids), generator)
    return new_tokens(decoder, ids, padding, max_new_tokens, settings, stop, generators, slide)


def check_context(n_tokens: int, max_new_tokens: int, context_length: int) -> None:
    """Raise ValueError where a prompt and its new tokens are more than the model can read."""
    if n_tokens + max_new_tokens > context_length + 1:  # the last one is not read any more
        raise ValueError(
            f"{n_tokens} tokens and {max_new_tokens} new ones exceed the model's context_length of "
            f"{context_length}: ask for fewer, crop the prompt, or let the window slide (slide=…)"
        )


def new_tokens(
    decoder: Decoder,
    ids: torch.Tensor,
    padding: torch.Tensor,
    max_new_tokens: int,
    settings: Sampling,
    stop: int | None,
    generators: list[torch.Generator],
    slide: int | None,
) -> Iterator[torch.Tensor]:
    """The loop of `stream`."""
    context_length, n_rows = decoder.config.context_length, len(ids)
    going_on, cache, seen = torch.arange(n_rows, device=ids.device), None, None
    if settings.repetition_penalty != 1:
        real = torch.arange(ids.shape[1], device=ids.device) >= padding[:, None]
        seen = torch.zeros(n_rows, decoder.config.vocab_size, dtype=torch.bool, device=ids.device)
        for row in range(n_rows):
            seen[row, ids[row, real[row]]] = True
    for number in range(max_new_tokens):
        if cache is None or cache.room == 0:  # the prompt; or the window slides, and is read anew
            keep = context_length if cache is None else context_length + 1 - slide
            dropped = max(0, ids.shape[1] - keep)
            unread = ids[:, dropped:]
            room = min(context_length, unread.shape[1] + max_new_tokens - number - 1)
            cache = decoder.new_cache(len(ids), room, (padding - dropped).clamp(min=0))
        logits = decoder.read(unread, cache)
        if settings.temperature == 0 and seen is None:
            chosen = logits.argmax(dim=-1)
        else:
            probs = settings.probabilities(logits, seen)
            chosen = draw(probs, [generators[row] for row in going_on.tolist()])
        tokens = ids.new_full((n_rows,), -1 if stop is None else stop)
        tokens[going_on] = chosen = chosen.to(ids.dtype)
        yield tokens
        ids, unread = torch.cat([ids, chosen[:, None]], dim=1), chosen[:, None]
        if seen is not None:
            seen.scatter_(1, unread.long(), True)
        if stop is not None and (chosen == stop).any():
            left = (chosen != stop).nonzero()[:, 0]
            if len(left) == 0:
                return
            cache.select(left)
            going_on, ids, unread, padding = (
                part[left] for part in (going_on, ids, unread, padding)
            )
            seen = None if seen is None else seen[left]


def generate(
    model: GPT | Decoder,
    ids: torch.Tensor | Sequence[Sequence[int]],
    max_new_tokens: int,
    **settings: object,
) -> list[list[int]]:
    """Continue prompts: for each, its ids with the new ones, up to and with the id of `stop`.

    See `stream`, whose settings and errors these are.
    """
    steps = list(stream(model, ids, max_new_tokens, **settings))
    prompts, padding = pad_left(ids)
    stop = settings.get("stop")
    texts = []
    for row, prompt in enumerate(prompts.tolist()):
        new = [step[row].item() for step in steps]
        new = new[: new.index(stop) + 1] if stop in new else new
        texts.append(prompt[padding[row] :] + new)
    return texts
