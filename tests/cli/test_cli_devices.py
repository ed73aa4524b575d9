"""An accelerator is trusted where its loss is right, and compiling where it works."""

import pytest
import torch
from cli_helpers import TINY, assert_equal_weights, failure, llmlib, losses, weights, write_text

from llmlib.cli import devices
from llmlib.cli.devices import choose_device, compiled
from llmlib.model.config import GPTConfig
from llmlib.model.gpt import GPT
from llmlib.training.loss import NextTokenLoss


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT(GPTConfig(20, 8, emb_dim=8, n_heads=2, n_layers=2, drop_rate=0.5))


@pytest.fixture
def batch():
    ids = torch.randint(20, (2, 7), generator=torch.Generator().manual_seed(0))
    return ids[:, :-1], ids[:, 1:]


def pretend(monkeypatch, losses):
    """Pretend that there are accelerators that give these losses; an exception is raised."""
    real = devices.loss_on

    def loss_on(device, *rest):
        loss = losses[device] if device != "cpu" else real(device, *rest)
        if isinstance(loss, Exception):
            raise loss
        return loss

    monkeypatch.setattr(devices, "accelerators", lambda: list(losses))
    monkeypatch.setattr(devices, "loss_on", loss_on)


def test_auto_trusts_an_accelerator_only_if_its_loss_is_the_cpus(monkeypatch, model, batch):
    right = devices.loss_on("cpu", model, batch)
    for loss, device, word in [
        (right, "mps", "equal within 0.001"),
        (right * (1 + 1e-4), "mps", "equal within 0.001"),
        (right * 1.01, "cpu", "it cannot be trusted"),
        (float("nan"), "cpu", "it cannot be trusted"),
        (RuntimeError("no kernel\nand a long trace"), "cpu", "mps failed on the first batch: no k"),
        (NotImplementedError("aten::x"), "cpu", "mps failed on the first batch: aten::x"),
    ]:
        pretend(monkeypatch, {"mps": loss})
        choice = choose_device("auto", model, batch)
        assert choice.device.type == device and word in choice.reason, choice
        assert "\n" not in choice.reason
        monkeypatch.undo()


def test_the_loss_of_the_check_is_the_models_and_leaves_it_alone(model, batch):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loss = devices.loss_on("cpu", model.train(), batch)
    assert model.training
    assert_equal_weights(model.state_dict(), before)
    logits = model.eval()(batch[0])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())
    assert loss == pytest.approx(expected.item(), abs=1e-5)


def test_each_process_gets_its_own_gpu(monkeypatch, model, batch):
    pretend(monkeypatch, dict.fromkeys(["cuda:0", "cuda:1"], devices.loss_on("cpu", model, batch)))
    for name in ("auto", "cuda"):
        chosen = [str(choose_device(name, model, batch, rank).device) for rank in range(3)]
        assert chosen == ["cuda:0", "cuda:1", "cuda:0"]


def test_a_device_that_was_asked_for_is_taken_unseen_or_refused(monkeypatch, model, batch):
    pretend(monkeypatch, {"mps": float("nan")})
    assert str(choose_device("mps", model, batch).device) == "mps"
    assert str(choose_device("cpu", model, batch).device) == "cpu"
    with pytest.raises(ValueError, match="no device 'gpu' here: there are cpu, mps"):
        choose_device("gpu", model, batch)


def test_the_commands_say_what_was_chosen(tmp_path, monkeypatch, capsys):
    pretend(monkeypatch, {"mps": 99.0})
    auto = [*TINY, "--device", "auto", "--max-steps", 1, "--out", tmp_path / "run"]
    assert llmlib("train", write_text(tmp_path), *auto) == 0
    assert "device cpu: mps gives a loss of 99.0000 on the first batch" in capsys.readouterr().out
    assert llmlib("generate", "--checkpoint", tmp_path / "run", "--max-new-tokens", 1) == 0
    assert "device cpu: mps gives a loss of 99.0000" in capsys.readouterr().err
    assert llmlib("evaluate", "--checkpoint", tmp_path / "run") == 0
    assert "device cpu: mps gives a loss of 99.0000" in capsys.readouterr().out
    assert "no device 'tpu' here" in failure(
        capsys, "evaluate", "--checkpoint", tmp_path / "run", "--device", "tpu"
    )


def eager(times):
    """A compiler that compiles nothing, and notes what it was given."""

    def compile(function, **settings):
        def faster(*arguments):
            times.append(function)
            return function(*arguments)

        return faster

    return compile


def test_compiling_leaves_no_trace_but_the_speed(monkeypatch, model, batch):
    times, state = [], torch.get_rng_state()
    monkeypatch.setattr(torch, "compile", eager(times))
    names, loss = set(model.state_dict()), NextTokenLoss(model)
    faster, word = compiled(loss, batch)
    assert word == "compiled" and len(times) == 2  # the blocks
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert set(model.state_dict()) == names
    faster(*batch)
    assert len(times) == 4


def test_where_compiling_fails_training_goes_on_as_usual(tmp_path, monkeypatch, capsys):
    def broken(function, **settings):
        def fail(*arguments):
            raise RuntimeError("No working C++ compiler found\nand much more")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    text = write_text(tmp_path)
    for name, flags in (("plain", []), ("run", ["--compile"])):
        out = ["--max-steps", 3, "--out", tmp_path / name]
        assert llmlib("train", text, *TINY, *flags, *out) == 0
    lines = capsys.readouterr().out.splitlines()
    word = "not compiled, as that fails here (RuntimeError: No working C++ compiler found)"
    assert lines.count(word) == 1
    assert losses(tmp_path / "plain") == losses(tmp_path / "run")
    assert_equal_weights(weights(tmp_path / "plain"), weights(tmp_path / "run"))


@pytest.mark.slow
def test_it_really_compiles_except_for_the_compiler(monkeypatch, model, batch):
    real = torch.compile  # which would run a C++ compiler for half a minute
    monkeypatch.setattr(torch, "compile", lambda *a, **k: real(*a, **k, backend="aot_eager"))
    expected = NextTokenLoss(model.eval())(*batch)[0].item()
    loss, word = compiled(NextTokenLoss(model), batch)
    assert word == "compiled"
    assert loss(*batch)[0].item() == pytest.approx(expected, rel=1e-5)
    shorter = tuple(part[:, :4] for part in batch)
    assert loss(*shorter)[0].isfinite()
