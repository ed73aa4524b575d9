// Prints what transformers.js writes from a folder, as JSON: node greedy.mjs FOLDER
import { readFileSync } from "node:fs";
import { dirname, basename } from "node:path";
import { AutoModelForCausalLM, AutoTokenizer, Tensor, env } from "@huggingface/transformers";

const folder = process.argv[2];
env.allowRemoteModels = false;
env.localModelPath = dirname(folder) + "/";
const name = basename(folder);
const expected = JSON.parse(readFileSync(folder + "/expected.json", "utf-8"));
const tokenizer = await AutoTokenizer.from_pretrained(name);
const model = await AutoModelForCausalLM.from_pretrained(name, { dtype: "fp32" });

const as64 = (ids) => new Tensor("int64", BigInt64Array.from(ids.map(BigInt)), [1, ids.length]);
const ids = [...expected.ids];
const fresh = [];
for (let i = 0; i < expected.n_new; i++) {
  const { logits } = await model.sessions.model.run({ input_ids: as64(ids).ort_tensor });
  const last = Array.from(logits.data.slice(-logits.dims[2]));
  const best = last.indexOf(Math.max(...last));
  ids.push(best);
  fresh.push(best);
}
const prompt_ids = tokenizer.encode(expected.prompt);
console.log(JSON.stringify({ new: fresh, text: tokenizer.decode(fresh), prompt_ids }));
