"""Print what transformers, of the environment that runs this, writes from a folder, as JSON."""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(sys.argv[1])
expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder).eval()
ids = torch.tensor([expected["ids"]])
options = {"max_new_tokens": expected["n_new"], "min_new_tokens": expected["n_new"]}
new = model.generate(ids, do_sample=False, **options)[0, ids.shape[1] :].tolist()
ends = {tokenizer.eos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id}
found = {"new": new, "text": tokenizer.decode(new), "ends": sorted(ends)}
found["prompt_ids"] = tokenizer(expected["prompt"]).input_ids
print(json.dumps({**found, "version": transformers.__version__}))
