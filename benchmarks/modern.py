"""The modern transformer: `llmlib` beside transformers, llama.cpp and nanoGPT, in one run.

Generation: SmolLM2-135M's shape with random weights, batch 1, 16 + 128 tokens. Beside the speed of
each format stands what a step takes outside of its products: the time of the same loop with the
answers of all products given. llama.cpp takes part if `xllamacpp` and `gguf` are installed (they
are in requirements-runtimes.txt). Training: forward, loss, backward and step at shapes S and M,
with as many parameters as nanoGPT has.

    python benchmarks/modern.py              all of it
    python benchmarks/modern.py --generate   one half; --train is the other one
    python benchmarks/modern.py --quick      a shape that is small, and one round: does it run?

The contestants take turns, round after round, so that a machine that is busy slows all of them. The
ratio to the first one is formed in each round, and the median is shown. All times are seconds of
the processor, with one thread.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if sys.path[0] == str(Path(__file__).parent):  # tokenizers.py, beside this file, is not the library
    del sys.path[0]

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmlib.generation.generate import generate
from llmlib.generation.packing import PackedLinear
from llmlib.generation.quantization import quantize
from llmlib.generation.rounding import BYTES
from llmlib.generation.sampling import Sampling
from llmlib.model.modern import Modern, ModernConfig
from llmlib.training.config import TrainConfig
from llmlib.training.trainer import Trainer

GREEDY = Sampling(temperature=0)
GGUF = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "Q8_0": "int8", "Q4_0": "4 bits"}
SMALL = {"vocab_size": 512, "n_layers": 2}  # of --quick
SHAPES = {  # name: (vocabulary, context, width, heads, layers, batch size)
    "S": (512, 128, 128, 4, 4, 32),
    "M": (50257, 256, 384, 6, 6, 4),
}


def take_turns(contestants: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Return the CPU-seconds of each contestant in each round."""
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return seconds


def ratios(seconds: dict[str, list[float]], name: str) -> tuple[float, str]:
    """Return how many times faster than the first one: the median, and the range as text."""
    first = next(iter(seconds.values()))
    found = [base / own for base, own in zip(first, seconds[name], strict=True)]
    return statistics.median(found), f"({min(found):.2f} to {max(found):.2f})"


# --- generation


def transformers_writer(config: ModernConfig, ids: Tensor) -> Callable[[int], Any]:
    """Return the `generate` of transformers, with its cache, for a Llama of the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.emb_dim,
        intermediate_size=config.hidden_dim,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        tie_word_embeddings=config.tie_weights,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = LlamaForCausalLM(shape).eval()
    return lambda n: model.generate(ids, max_new_tokens=n, do_sample=False, pad_token_id=0)


def without_products(packed: Any, ids: Tensor) -> Callable[[int], Any]:
    """Return the writer of a packed model whose products cost nothing: what is left is the rest."""
    rest = quantize(Modern(packed.config), "float32")
    for name, part in packed.named_modules():
        if isinstance(part, PackedLinear):
            answer = part(torch.randn(1, ids.shape[1], part.in_features))
            one = answer[:, -1:].clone()
            own = rest.get_submodule(name)
            own.product = lambda x, one=one, all=answer: (
                one if x.shape[1] == 1 else all[:, -x.shape[1] :]
            )
    return lambda n: generate(rest, ids, n, GREEDY)


def write_gguf(path: Path, config: ModernConfig, kind: str) -> None:
    """Write a Llama of this shape with random weights in a format of llama.cpp."""
    import gguf

    C, D = config.emb_dim, config.head_dim
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(C)
    writer.add_block_count(config.n_layers)
    writer.add_feed_forward_length(config.hidden_dim)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_rope_dimension_count(D)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_tokenizer_model("gpt2")  # it does not start without words
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_token_types([1] * config.vocab_size)
    writer.add_token_merges(["t 0"])
    q, kv, hidden = config.n_heads * D, config.n_kv_heads * D, config.hidden_dim
    layer = {"attn_q": (q, C), "attn_k": (kv, C), "attn_v": (kv, C), "attn_output": (C, q)}
    layer |= {"ffn_gate": (hidden, C), "ffn_up": (hidden, C), "ffn_down": (C, hidden)}
    layer |= {"attn_norm": (C,), "ffn_norm": (C,)}
    shapes = {"token_embd": (config.vocab_size, C), "output_norm": (C,)}
    for number in range(config.n_layers):
        shapes |= {f"blk.{number}.{name}": shape for name, shape in layer.items()}
    for name, shape in shapes.items():
        format = gguf.GGMLQuantizationType[kind if len(shape) == 2 else "F32"]
        weight = gguf.quants.quantize((torch.randn(shape) * 0.02).numpy(), format)
        writer.add_tensor(f"{name}.weight", weight, raw_dtype=format)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_writer(path: Path, ids: Tensor) -> Callable[[int], Any]:
    """Return the completion of llama.cpp's server, in this process and with one thread."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.n_gpu_layers = str(path), 256, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.verbosity = 0
    server = xllamacpp.Server(params)

    def write(n: int) -> None:
        request = {"prompt": ids[0].tolist(), "n_predict": n, "temperature": 0}
        answer = server.handle_completions(request | {"cache_prompt": False, "ignore_eos": True})
        answer = answer if isinstance(answer, dict) else json.loads(answer)
        assert answer["timings"]["predicted_n"] == n, answer

    return write


def race_generation(options: argparse.Namespace, folder: Path) -> None:
    """Let all write, and print speeds, ratios, and what a step takes outside of its products."""
    config = ModernConfig.preset("smollm2-135m", **(SMALL if options.quick else {}))
    n_new = 4 if options.quick else 128
    torch.manual_seed(0)
    model = Modern(config).eval().requires_grad_(False)
    ids = torch.randint(config.vocab_size, (1, 16))
    writers = {"transformers float32": transformers_writer(config, ids)}
    rests = {}
    for format in BYTES:
        packed = quantize(model, format)
        writers[f"llmlib {format}"] = lambda n, packed=packed: generate(packed, ids, n, GREEDY)
        rests[f"llmlib {format}"] = without_products(packed, ids)
    if find_spec("xllamacpp") and find_spec("gguf"):
        for kind in GGUF:
            write_gguf(folder / kind, config, kind)
            writers[f"llama.cpp {kind}"] = llama_cpp_writer(folder / kind, ids)
    for write in [*writers.values(), *rests.values()]:  # warm up
        write(4)
    works = {name: lambda write=write: write(n_new) for name, write in writers.items()}
    works |= {f"{name} rest": lambda write=write: write(n_new) for name, write in rests.items()}
    seconds = take_turns(works, options.rounds)
    print(f"\ngeneration: {model.num_parameters() / 1e6:.0f}M parameters, batch 1, 16 + {n_new}")
    heads = f"{'':24s}{'tokens/s':>10s}{'ratio':>7s}{'':18s}{'ms a token':>10s}"
    print(heads + "  outside of products")
    for name in writers:
        each = statistics.median(seconds[name]) / n_new
        ratio, spread = ratios(seconds, name)
        rest = seconds.get(f"{name} rest")
        shown = f"{statistics.median(rest) / n_new * 1e3:21.1f}" if rest else ""
        print(f"{name:24s}{1 / each:10.1f}{ratio:7.2f} {spread:17s}{each * 1e3:10.1f}{shown}")


# --- training


class NanoBlock(nn.Module):
    """A block of nanoGPT: fused attention, exact GELU, norms and layers without biases."""

    def __init__(self, C: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.ln_1, self.ln_2 = (nn.LayerNorm(C, bias=False) for _ in range(2))
        self.c_attn, self.attn_proj = nn.Linear(C, 3 * C, False), nn.Linear(C, C, False)
        self.c_fc, self.mlp_proj = nn.Linear(C, 4 * C, False), nn.Linear(4 * C, C, False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, T, C) to (B, T, C)."""
        B, T, C = x.shape
        qkv = self.c_attn(self.ln_1(x)).split(C, dim=2)
        q, k, v = (each.view(B, T, self.n_heads, -1).transpose(1, 2) for each in qkv)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(heads.transpose(1, 2).contiguous().view(B, T, C))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    """nanoGPT's model, as its train.py makes it: no biases, tied head, no dropout."""

    def __init__(self, V: int, T: int, C: int, n_heads: int, n_layers: int):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.h = nn.ModuleList(NanoBlock(C, n_heads) for _ in range(n_layers))
        self.ln_f, self.lm_head = nn.LayerNorm(C, bias=False), nn.Linear(C, V, bias=False)
        self.lm_head.weight = self.wte.weight
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of ids and targets (B, T)."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def nano_steps(model: NanoGPT, batches: list) -> Iterator[None]:
    """Train as nanoGPT's loop does, eagerly and in float32, without an end."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95))  # fused: on CUDA only
    while True:
        for inputs, targets in batches:
            model(inputs, targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield


def our_steps(model: nn.Module, batches: list, dtype: str) -> Iterator[Any]:
    """Train as `llmlib.training.trainer` does, without an end."""
    plan = TrainConfig(max_steps=10**9, learning_rate=1e-3, warmup_steps=10, dtype=dtype)
    yield from Trainer(model, plan).run(batches)


def equal_config(name: str, n_parameters: int) -> ModernConfig:
    """Return the modern configuration of a shape that comes closest to a number of parameters."""
    V, T, C, n_heads, n_layers, _ = SHAPES[name]

    def config(hidden: int) -> ModernConfig:
        return ModernConfig(V, T, C, n_heads, n_layers, hidden_dim=hidden, tie_weights=True)

    with torch.device("meta"):
        rest = Modern(config(16)).num_parameters()
    hidden = 16 + (n_parameters - rest) / (3 * C * n_layers)
    return config(round(hidden / 16) * 16)


def race_training(name: str, options: argparse.Namespace) -> None:
    """Let all take steps at a shape, and print tokens per CPU-second and ratios."""
    *shape, batch_size = SHAPES[name]
    V, T = shape[:2]
    batch_size, n_steps = (1, 1) if options.quick else (batch_size, 3 if name == "S" else 1)
    rows = torch.randint(V, (8, batch_size, T + 1), generator=torch.Generator().manual_seed(0))
    batches = [(row[:, :-1], row[:, 1:]) for row in rows]
    torch.manual_seed(0)
    nano = NanoGPT(*shape)
    n_parameters = sum(p.numel() for p in nano.parameters())
    config = equal_config(name, n_parameters)
    runs: dict[str, Iterator[Any]] = {"nanoGPT float32": nano_steps(nano, batches)}
    for dtype in ("float32", "bfloat16"):
        runs[f"llmlib {dtype}"] = our_steps(Modern(config), batches, dtype)
    works = {key: lambda run=run: [next(run) for _ in range(n_steps)] for key, run in runs.items()}
    take_turns(works, 1 if options.quick else 2)  # warm up
    seconds = take_turns(works, options.rounds if options.quick else 3 * options.rounds)
    ours = Modern(config).num_parameters()
    print(
        f"\ntraining {name}: {n_parameters:,} parameters, ours {ours:,}, {batch_size} rows of {T}"
    )
    print(f"{'':24s}{'tokens/s':>10s}{'ratio':>7s}")
    for key, taken in seconds.items():
        speed = n_steps * batch_size * T / statistics.median(taken)
        ratio, spread = ratios(seconds, key)
        print(f"{key:24s}{speed:10,.0f}{ratio:7.2f} {spread}")


def main() -> None:
    """Read the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--generate", action="store_true", help="generation only")
    parser.add_argument("--train", action="store_true", help="training only")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument(
        "--rounds", type=int, default=5, help="of generation; training takes 3 × it"
    )
    parser.add_argument("--quick", action="store_true", help="small and short: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 1
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, CPU-seconds, {options.rounds} rounds")
    if options.generate or not options.train:
        with ExitStack() as stack:
            race_generation(options, Path(stack.enter_context(tempfile.TemporaryDirectory())))
    if options.train or not options.generate:
        for name in options.shapes:
            race_training(name, options)


if __name__ == "__main__":
    main()
