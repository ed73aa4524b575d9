"""Training: settings, the loss, optimizers, the loop, checkpoints."""

import json
import math
from dataclasses import dataclass
from unittest import mock

import torch
from torch import nn
from toy import Toy

from refusals import api
from refusals.refusal import Refusal

NAN = math.nan
WHOLE = ("int", "whole number")
Y = torch.zeros(2, 3, dtype=torch.long)
LOSSES = {
    "loss": lambda targets, **more: api.cross_entropy(torch.zeros(2, 3, 5), targets, **more),
    "chunked loss": lambda targets, **more: api.chunked_cross_entropy(
        torch.zeros(2, 3, 4), torch.zeros(5, 4), targets, **more
    ),
}


def setting_row(name: str, value: object, *says) -> Refusal:
    return Refusal(
        f"config {name}={value!r}",
        lambda tmp: api.TrainConfig(**{"max_steps": 10, name: value}),
        ValueError,
        [name, repr(value), *says],
    )


def chunked(features=None, weight=None, **more):
    features = torch.zeros(2, 3, 4) if features is None else features
    weight = torch.zeros(5, 4) if weight is None else weight
    return api.chunked_cross_entropy(features, weight, Y, **more)


def loader_row(name: str, loader, error: type, *says) -> Refusal:
    return Refusal(
        f"loader {name}",
        lambda tmp: api.train(api.gpt(), loader(), api.TrainConfig(max_steps=2)),
        error,
        [*says],
    )


def state_row(name: str, change, *says, model=api.gpt, **settings) -> Refusal:
    """A state that a new trainer cannot take up; change makes it of a good one."""

    def call(tmp):
        fresh = api.trainer(model(), **settings)
        api.load_state(fresh, change(api.trained_state()))

    return Refusal(f"state {name}", call, ValueError, [*says])


def other_number_of_batches(tmp):
    trainer = api.trainer()
    api.load_state(trainer, api.trained_state(steps=1))
    api.train_steps(trainer, [api.batch()] * 5)


def diverges(tmp):
    model = api.gpt()
    model.ln_f.register_forward_hook(lambda module, inputs, output: output * NAN)
    api.train_steps(api.trainer(model), [api.batch()])


def frozen():
    model = api.gpt()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


@dataclass
class Thing:
    x: int = 1


def saved(tmp, model=None):
    api.save_checkpoint(tmp / "run", api.gpt() if model is None else model)
    return tmp / "run"


def manifest_row(name: str, content: bytes, *says) -> Refusal:
    def call(tmp):
        (saved(tmp) / "checkpoint.json").write_bytes(content)
        api.load_checkpoint(tmp / "run")

    return Refusal(f"checkpoint.json {name}", call, "FileError", ["checkpoint.json", *says])


def manifest_without(*path: str):
    """checkpoint.json with a part taken out."""

    def call(tmp):
        file = saved(tmp) / "checkpoint.json"
        content = place = json.loads(file.read_text())
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = 3
        file.write_text(json.dumps(content))
        api.seal(file)
        api.load_checkpoint(tmp / "run")

    return call


def weights_row(name: str, change, *says) -> Refusal:
    """A checkpoint whose file of weights was changed; change maps its bytes to others, or None."""

    def call(tmp):
        (file,) = saved(tmp).glob("weights-*")
        content = change(file.read_bytes())
        file.unlink() if content is None else file.write_bytes(content)
        api.load_checkpoint(tmp / "run")

    return Refusal(f"weights {name}", call, "FileError", ["weights-", *says])


def forged_weights(tmp):
    import hashlib

    (file,) = saved(tmp).glob("weights-*")
    file.write_bytes(b"not a table of tensors")
    manifest = json.loads((tmp / "run" / "checkpoint.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest["files"]["weights"] |= {"size": 22, "sha256": digest}
    (tmp / "run" / "checkpoint.json").write_text(json.dumps(manifest))
    api.seal(tmp / "run" / "checkpoint.json")
    api.load_checkpoint(tmp / "run")


def save_on_a_full_disk(tmp):
    with mock.patch("os.fsync", api.full):
        api.save_checkpoint(tmp / "run", api.gpt())


def save_below_a_file(tmp):
    (tmp / "file").write_text("in the way")
    api.save_checkpoint(tmp / "file" / "run", api.gpt())


REFUSALS = [
    # ---- settings
    *(
        setting_row(name, value, WHOLE, least)
        for name, value, least in [
            ("max_steps", 0, "1"),
            ("max_steps", 1e3, "1"),
            ("max_steps", True, "1"),
            ("warmup_steps", -1, "0"),
            ("accumulation_steps", 0, "1"),
            ("accumulation_steps", "2", "1"),
        ]
    ),
    *(
        setting_row(name, value, "number", *says)
        for name, value, *says in [
            ("learning_rate", 0, "0"),
            ("learning_rate", math.inf, "0"),
            ("learning_rate", NAN, "0"),
            ("learning_rate", "1e-3", "0"),
            ("learning_rate", True, "0"),
            ("final_fraction", -0.1, "0", "1"),
            ("final_fraction", 1.1, "0", "1"),
            ("weight_decay", -1, "0"),
            ("weight_decay", math.inf, "0"),
            ("weight_decay", None, "0"),
            ("grad_clip", 0, "0", "None"),
            ("grad_clip", True, "0", "None"),
            ("grad_clip", "1", "0", "None"),
        ]
    ),
    setting_row("betas", (0.9,), ("two", "2")),
    setting_row("betas", 0.9, ("two", "2")),
    *(
        Refusal(
            f"config betas={betas}",
            lambda tmp, betas=betas: api.TrainConfig(max_steps=10, betas=betas),
            ValueError,
            ["betas", which, wrong, "0", "1"],
        )
        for betas, which, wrong in [
            ((1, 0.9), ("first", "[0]"), "1"),
            ((-0.1, 0.9), ("first", "[0]"), "-0.1"),
            ((0.9, 1.0), ("second", "[1]"), "1.0"),
            ((0.9, None), ("second", "[1]"), "None"),
        ]
    ),
    setting_row("aux_weights", -1, "number", "0", "dict"),
    setting_row("aux_weights", "all", "number", "0", "dict"),
    Refusal(
        "config with a weight that is nan",
        lambda tmp: api.TrainConfig(max_steps=10, aux_weights={"gate": NAN}),
        ValueError,
        ["aux_weights", "'gate'", "nan", "number"],
    ),
    setting_row("dtype", "float16", "float32", "bfloat16"),
    setting_row("dtype", torch.bfloat16, "float32", "bfloat16"),
    setting_row("optimizer", "sgd", "adamw", "muon"),
    Refusal(
        "config unknown setting",
        lambda tmp: api.TrainConfig(max_steps=1, learnign_rate=1),
        TypeError,
        ["learnign_rate"],
    ),
    Refusal(
        "config changed later",
        lambda tmp: setattr(api.TrainConfig(max_steps=1), "max_steps", 2),
        AttributeError,
        ["max_steps"],
    ),
    Refusal(
        "learning rate of step -1",
        lambda tmp: api.learning_rate_at(-1, api.TrainConfig(max_steps=1)),
        ValueError,
        ["-1", "0"],
    ),
    # ---- the loss
    *(
        Refusal(f"{name} {what}", lambda tmp, loss=loss, y=y: loss(y), error, says)
        for name, loss in LOSSES.items()
        for what, y, error, says in [
            ("of a list", [[0, 0, 0]], TypeError, ["list", "tensor"]),
            ("of float targets", Y.float(), TypeError, ["torch.float32", "torch.int64"]),
            ("of a transposed target", Y.T, ValueError, ["(3, 2)", "(2, 3)"]),
            ("of a target above", Y + 5, ValueError, ["5", "vocabulary", "0", "4", "-100"]),
            ("of a target below", Y - 1, ValueError, ["-1", "vocabulary", "0", "4", "-100"]),
            ("of ignored targets", Y - 100, ValueError, ["6", "targets"]),
        ]
    ),
    *(
        Refusal(
            f"{name} reduction",
            lambda tmp, loss=loss: loss(Y, reduction="none"),
            ValueError,
            ["reduction", "'none'", "mean", "sum"],
        )
        for name, loss in LOSSES.items()
    ),
    Refusal(
        "loss of whole logits",
        lambda tmp: api.cross_entropy(torch.zeros(2, 3, 5).long(), Y),
        TypeError,
        ["logits", "torch.int64", "float"],
    ),
    Refusal(
        "loss of a list of logits",
        lambda tmp: api.cross_entropy([[1.0]], Y),
        TypeError,
        ["logits", "list", "tensor"],
    ),
    Refusal(
        "loss of flat logits",
        lambda tmp: api.cross_entropy(torch.zeros(5), Y),
        ValueError,
        ["logits", "(5,)", "vocabulary"],
    ),
    *(
        Refusal(
            f"chunked loss of {what}",
            lambda tmp, features=features, weight=weight: chunked(features, weight),
            ValueError,
            ["features", "weight", shape, "vocabulary"],
        )
        for what, features, weight, shape in [
            ("a transposed weight", None, torch.zeros(4, 5), "(4, 5)"),
            ("a flat weight", None, torch.zeros(4), "(4,)"),
            ("flat features", torch.zeros(4), None, "(4,)"),
            ("narrow features", torch.zeros(2, 3, 2), None, "(2, 3, 2)"),
        ]
    ),
    Refusal(
        "chunked loss of whole features",
        lambda tmp: chunked(torch.zeros(2, 3, 4).long()),
        TypeError,
        ["features", "torch.int64", "float"],
    ),
    Refusal(
        "chunked loss with a list for a weight",
        lambda tmp: chunked(weight=[[1.0]]),
        TypeError,
        ["weight", "list", "tensor"],
    ),
    *(
        Refusal(
            f"chunked loss chunk_size={size}",
            lambda tmp, size=size: chunked(chunk_size=size),
            ValueError,
            ["chunk_size", str(size), "1"],
        )
        for size in (0, -3)
    ),
    # ---- the loop
    Refusal(
        "trainer of a function",
        lambda tmp: api.Trainer(lambda ids: ids, api.TrainConfig(max_steps=1)),
        TypeError,
        ["model", "Module", "function"],
    ),
    Refusal(
        "trainer of a dict",
        lambda tmp: api.Trainer(api.gpt(), {"max_steps": 1}),
        TypeError,
        ["config", "TrainConfig", "dict"],
    ),
    Refusal(
        "trainer of a frozen model",
        lambda tmp: api.trainer(frozen()),
        ValueError,
        ["no parameters", "frozen"],
    ),
    loader_row(
        "that ends", lambda: iter([api.batch()]), TypeError, "iterator", "once", "DataLoader"
    ),
    loader_row("of nothing", list, ValueError, ("no batches", "empty")),
    loader_row("of tensors", lambda: [api.batch()[0]], TypeError, "inputs, targets", "pair"),
    loader_row(
        "of lists",
        lambda: [tuple(part.tolist() for part in api.batch())],
        TypeError,
        "inputs, targets",
        "tensor",
    ),
    loader_row(
        "of ignored targets",
        lambda: [(api.batch()[0], torch.full((2, 3), -100))],
        ValueError,
        "-100",
        "targets",
    ),
    loader_row(
        "of other shapes",
        lambda: [(api.batch()[0], api.batch()[1][:, :2])],
        ValueError,
        "(2, 2)",
        "(2, 3)",
    ),
    loader_row(
        "of unknown targets",
        lambda: [(api.batch()[0], api.batch()[1] + 11)],
        ValueError,
        "vocabulary",
        "0",
        "10",
    ),
    loader_row(
        "of floats",
        lambda: [(api.batch()[0].float(), api.batch()[1])],
        TypeError,
        "torch.float32",
        "torch.int64",
    ),
    Refusal(
        "loader of another length",
        other_number_of_batches,
        ValueError,
        ["2 batches", "5", "same", "batch size"],
    ),
    Refusal(
        "step of no batches",
        lambda tmp: api.trainer().take_step([]),
        ValueError,
        ["no batch", "one"],
    ),
    *(
        Refusal(
            f"loss without a weight among {[*weights]}",
            lambda tmp, weights=weights: api.trainer(Toy(), aux_weights=weights).take_step(
                [api.batch()]
            ),
            ValueError,
            ["'gate'", "aux_weights", given, "weight"],
        )
        for weights, given in [({}, "none"), ({"other": 1.0}, "other")]
    ),
    Refusal(
        "training that diverges",
        diverges,
        FloatingPointError,
        ["step 1", "nan", "loss", "learning rate", "grad_clip"],
    ),
    # ---- the state
    state_row("None", lambda state: None, "state of a Trainer"),
    state_row("of nothing", lambda state: {}, "state of a Trainer"),
    state_row("of a step in a string", lambda state: {**state, "step": "1"}, "Trainer", "'1'"),
    state_row(
        "of strangers",
        lambda state: {**state, "tensors": {"other.x": torch.zeros(1)}},
        "state of a Trainer",
        "other",
    ),
    state_row(
        "without an optimizer's values",
        lambda state: {
            **state,
            "tensors": {n: t for n, t in state["tensors"].items() if n[:9] != "optimizer"},
        },
        "step 1",
        "optimizer",
    ),
    state_row(
        "of another optimizer", lambda state: state, "'adamw'", "'muon'", "same", optimizer="muon"
    ),
    state_row(
        "of a wider model",
        lambda state: state,
        "(11, 8)",
        "(11, 4)",
        model=lambda: api.gpt(emb_dim=4),
    ),
    state_row(
        "of a deeper model",
        lambda state: {
            **state,
            "tensors": {n.replace("h.0.", "h.7."): t for n, t in state["tensors"].items()},
        },
        "h.7.",
        "nothing",
    ),
    # ---- checkpoints
    *(
        Refusal(
            f"no checkpoint in {name}",
            lambda tmp, name=name: api.load_checkpoint(tmp / name),
            FileNotFoundError,
            ["no checkpoint", "checkpoint.json"],
        )
        for name in ("", "nowhere")
    ),
    manifest_row("of bytes", b"\x80\x02}q\x00.", "damaged", "JSON"),
    manifest_row("of half a text", b'{"format": ', "damaged", "JSON"),
    manifest_row("of a list", b"[]", "JSON object", "{"),
    manifest_row("of another program", b'{"format": "pt"}', "llmlib checkpoint"),
    manifest_row(
        "of the future", b'{"format": "llmlib checkpoint", "version": 99}', "99", "2", "version"
    ),
    manifest_row(
        "without files", b'{"format": "llmlib checkpoint", "version": 1}', "damaged", "missing"
    ),
    *(
        Refusal(
            f"checkpoint.json with 3 as {' '.join(path)}",
            manifest_without(*path),
            "FileError",
            ["checkpoint.json", "damaged", "missing"],
        )
        for path in [
            ("files", "weights", "name"),
            ("files", "training"),
            ("notes",),
            ("model",),
        ]
    ),
    weights_row("missing", lambda content: None, "missing", "checkpoint.json"),
    weights_row("cut", lambda content: content[:-1], "damaged", "bytes"),
    weights_row("changed", lambda content: content[:-1] + b"!", "damaged", "content"),
    Refusal("weights forged", forged_weights, "FileError", ["weights-", "safetensors"]),
    *(
        Refusal(
            f"checkpoint into a model of {name}={here}",
            lambda tmp, name=name, here=here: api.load_checkpoint(
                saved(tmp), api.gpt(**{name: here})
            ),
            "FileError",
            [name, repr(there), repr(here), "model_config"],
        )
        for name, there, here in [
            ("emb_dim", 8, 4),
            ("n_layers", 1, 2),
            ("n_heads", 2, 4),
            ("tie_weights", True, False),
        ]
    ),
    Refusal(
        "checkpoint into another kind of model",
        lambda tmp: api.load_checkpoint(saved(tmp, nn.Linear(3, 4)), nn.Linear(3, 5)),
        "FileError",
        ["'bias'", "(4,)", "(5,)"],
    ),
    Refusal(
        "checkpoint into a model without its names",
        lambda tmp: api.load_checkpoint(saved(tmp, nn.Linear(3, 4)), nn.Linear(3, 4, bias=False)),
        "FileError",
        ["'bias'", "(4,)", "nothing"],
    ),
    *(
        Refusal(
            f"notes of {name}",
            lambda tmp, notes=notes: api.save_checkpoint(tmp / "run", api.gpt(), notes=notes),
            error,
            ["JSON"],
        )
        for name, notes, error in [
            ("nan", {"loss": NAN}, ValueError),
            ("a thing", {"thing": Thing()}, TypeError),
        ]
    ),
    Refusal(
        "checkpoint on a full disk",
        save_on_a_full_disk,
        OSError,
        ["run", "No space left", "could not be saved", "untouched"],
    ),
    Refusal(
        "checkpoint below a file",
        save_below_a_file,
        OSError,
        ["run", "could not be saved", "untouched"],
    ),
    Refusal(
        "checkpoint that cannot take its place",
        api.on_a_full_disk(saved),
        OSError,
        ["run", "No space left", "could not be saved", "untouched"],
    ),
]
