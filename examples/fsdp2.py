"""Train a model that is too large for one GPU: FSDP2 leaves each process a share of the weights.

    torchrun --nproc_per_node=2 examples/fsdp2.py    a GPU each, or the CPU where there is none
    python examples/fsdp2.py                         one process: the same losses, the same weights

Each process keeps its share of every weight, gradient and moment of AdamW, and gathers the weights
of a block when it needs them. `llmlib train` under torchrun copies the whole model into each
process instead, which is faster as long as it fits.
"""

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from llmlib import stories
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.tokenization.words import WordTokenizer


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="story-tiny", help="such as gpt2-1558M")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8, help="rows of all processes together")
    parser.add_argument("--out", default="fsdp2.safetensors")
    return parser.parse_args()


def main() -> None:
    args = read_arguments()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if gpu else "cpu"

    text = " ".join(story.text for story in stories.tell_many(1000, seed=1))
    tokenizer = WordTokenizer.from_text(text)
    ids = torch.tensor(tokenizer.encode(text))
    torch.manual_seed(0)  # every process begins with the same weights
    model = GPT(GPTConfig.preset(args.preset, vocab_size=tokenizer.vocab_size)).to(device)
    if world > 1:
        dist.init_process_group("nccl" if gpu else "gloo")
        for block in model.h:  # first the blocks: each is gathered by itself, when its turn comes
            fully_shard(block)
        fully_shard(model)  # then what is left: embeddings and the last norm
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)  # after sharding: of the shares

    length, generator = model.config.context_length, torch.Generator().manual_seed(0)
    for step in range(1, args.steps + 1):
        # All processes draw the same places; each reads every world-th row, (rows, length + 1).
        starts = torch.randint(len(ids) - length, (args.batch_size, 1), generator=generator)
        rows = ids[starts[rank::world] + torch.arange(length + 1)].to(device)
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()  # gradients are averaged over the processes, and each keeps its share
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach() / world  # of this process's rows; the sum is the mean over all
        if world > 1:
            dist.all_reduce(loss)
        if rank == 0:
            print(f"step {step}, loss {loss.item():.4f}", flush=True)

    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=whole)  # gathered: rank 0 holds them all
    if rank == 0:
        save_file(weights, args.out)
    if world > 1:
        dist.barrier()  # not before all are done
        # without Python's farewell, which the threads of gloo may not survive: see cli/console.py
        os._exit(0)


if __name__ == "__main__":
    main()
