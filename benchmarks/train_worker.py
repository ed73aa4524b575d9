"""Training steps of one checkout, for `train.py --against`: a model of random tokens.

Run by `paired.Worker` with the arguments SHAPE DTYPE STEPS. It reads the llmlib that is first on
the path, also that of the versions before the rooms.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

if sys.path[0] == str(Path(__file__).parent):  # tokenizers.py, beside this file, is not the library
    del sys.path[0]

import torch

try:
    from llmlib.model.config import GPTConfig
    from llmlib.model.gpt import GPT
    from llmlib.training.config import TrainConfig
    from llmlib.training.trainer import Trainer
except ImportError:  # one floor of modules, up to e13c458
    from llmlib.gpt import GPT, GPTConfig
    from llmlib.train import TrainConfig, Trainer

sys.path.append(str(Path(__file__).parent))
from paired import serve

SHAPES = {  # name: (vocabulary, context, width, heads, layers, batch size)
    "S": (512, 128, 128, 4, 4, 32),
    "M": (50257, 256, 384, 6, 6, 4),
}


def losses(shape: str, dtype: str) -> Iterator[float]:
    """Yield the loss of each training step, without an end."""
    V, T, emb_dim, n_heads, n_layers, batch_size = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(V, (8, batch_size, T + 1), generator=generator)
    torch.manual_seed(0)
    model = GPT(GPTConfig(V, T, emb_dim=emb_dim, n_heads=n_heads, n_layers=n_layers))
    plan = TrainConfig(max_steps=10**9, learning_rate=1e-3, warmup_steps=10, dtype=dtype)
    for report in Trainer(model, plan).run([(rows[:, :-1], rows[:, 1:]) for rows in ids]):
        yield report.loss


if __name__ == "__main__":
    shape, dtype, steps = sys.argv[1:]
    torch.set_num_threads(1)
    run = losses(shape, dtype)
    serve(lambda: [next(run) for _ in range(int(steps))])
