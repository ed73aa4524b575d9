# From notebooks/04_gpt.ipynb: edit there, then run make export.

"""The GPT: embeddings, a stack of transformer blocks, and a score for each possible next token.

Built in notebook 04, with the attention of notebook 03. Parameters carry GPT-2's names, so that its
weights can be loaded by name. The model maps token ids to logits and knows nothing else: losses,
sampling and files belong to other modules. What is left out: a cache for generating (notebook 10).

Shapes: B sequences in a batch, T tokens each, C = emb_dim numbers per token, V = vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from llmlib.model.attention import CausalAttention
from llmlib.model.config import GPTConfig


class FeedForward(nn.Module):
    """The part of a block that works on each token alone: widen four times, GELU, narrow again.

    With the tanh form of GELU (Hendrycks and Gimpel 2016), on which GPT-2 was trained.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.emb_dim, 4 * config.emb_dim)
        self.c_proj = nn.Linear(4 * config.emb_dim, config.emb_dim)
        self.drop = nn.Dropout(config.drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        hidden = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, C) -> (B, T, 4C)
        return self.drop(self.c_proj(hidden))


class Block(nn.Module):
    """A transformer block: attention between tokens, then a feed-forward network in each.

    Both add to what comes in and are normalised at their entrance ("pre-norm", Radford et al. 2019,
    section 2.3), so that x itself passes through unchanged.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.emb_dim)
        self.attn = CausalAttention(
            config.emb_dim,
            config.n_heads,
            config.context_length,
            drop_rate=config.drop_rate,
            qkv_bias=config.qkv_bias,
        )
        self.ln_2 = nn.LayerNorm(config.emb_dim)
        self.mlp = FeedForward(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A GPT-2 of any size: token ids (B, T) in, logits (B, T, V) out.

    The logits at a position score the token that follows it, and depend on no later token. A new
    model is initialised as GPT-2 was (see `init_weights`). Made under `torch.device("meta")` it has
    its shapes and takes no memory.

    >>> model = GPT(GPTConfig.preset("story-tiny"))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 512])
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        if not isinstance(config, GPTConfig):
            raise TypeError(f"GPT takes a GPTConfig, not {type(config).__name__}")
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.emb_dim)
        self.wpe = nn.Embedding(config.context_length, config.emb_dim)
        self.drop = nn.Dropout(config.drop_rate)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.emb_dim)
        if not config.tie_weights:
            self.lm_head = nn.Linear(config.emb_dim, config.vocab_size, bias=False)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self, std: float = 0.02, *, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew: normal with standard deviation `std`, biases 0, norms 1.

        The two projections of each block that add to the residual stream are smaller by
        1/√(2·n_layers), so that the stream's variance does not grow with depth (Radford et al.
        2019, section 2.3). Raises ValueError for a std that is not above 0.
        """
        if not 0 < std < math.inf:
            raise ValueError(f"std is {std!r}: it must be a number above 0; GPT-2's is 0.02")
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:  # the scale of a layer normalization
                parameter.fill_(1.0)
            else:
                residual = name.endswith("c_proj.weight")
                scale = 1 / math.sqrt(2 * self.config.n_layers) if residual else 1.0
                parameter.normal_(0.0, std * scale, generator=generator)

    @property
    def head_weight(self) -> torch.Tensor:
        """The weight (V, C) whose product with the features gives the logits."""
        return self.wte.weight if self.config.tie_weights else self.lm_head.weight

    def num_parameters(self) -> int:
        """The number of parameters; what head and embedding share is counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def check_ids(self, ids: torch.Tensor) -> None:
        """Raise TypeError or ValueError, saying what is allowed, for ids that it can not read.

        That ids lie in the vocabulary is checked on the CPU only. To look at numbers on an
        accelerator, Python would have to wait for it at every step; CUDA has an assertion of its
        own ("device-side assert"), and the same batch on the CPU then tells which id it was.
        """
        if not isinstance(ids, torch.Tensor):
            raise TypeError(f"ids are a {type(ids).__name__}: give a tensor, torch.tensor([ids])")
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids hold {ids.dtype}: token ids are torch.int64 (or int32)")
        if ids.ndim != 2:
            raise ValueError(
                f"ids have shape {tuple(ids.shape)}, expected (batch, tokens); "
                "a single sequence is a batch of one: ids.unsqueeze(0)"
            )
        if ids.numel() == 0:
            raise ValueError(f"ids of shape {tuple(ids.shape)} hold no token: give at least one")
        if ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"sequence of {ids.shape[1]} tokens exceeds the model's context_length of "
                f"{self.config.context_length}: crop it, or build the model with a longer one"
            )
        if ids.device != self.wte.weight.device:
            device = self.wte.weight.device
            raise ValueError(f"ids are on {ids.device}, the model on {device}: ids.to('{device}')")
        if ids.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (bound.item() for bound in ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"token id {low if low < 0 else high} is outside the vocabulary: "
                    f"ids are 0 to {self.config.vocab_size - 1}"
                )

    def features(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to what the head reads, (B, T, C), for a loss that avoids whole logits.

        Raises as `check_ids` does.
        """
        self.check_ids(ids)
        x = self.drop(self.wte(ids) + self.wpe.weight[: ids.shape[1]])  # (B, T) -> (B, T, C)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids (B, T) to logits (B, T, V); raises as `check_ids` does."""
        return F.linear(self.features(ids), self.head_weight)  # (B, T, C) -> (B, T, V)
