"""`llmlib train`: a run from its settings to its last checkpoint, on one process or many.

Written by hand, to be read from the top down: settings, folder, data, model, trainer with its
callbacks, loop. A run that is stopped, killed or crashes at any moment goes on from its last
checkpoint as if nothing had happened, bit for bit.
"""

from functools import partial

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from llmlib import checks
from llmlib.cli.base_model import config_of_run, first_weights
from llmlib.cli.callbacks import Recorder
from llmlib.cli.console import warn
from llmlib.cli.dataset import Batch, TokenData, peek
from llmlib.cli.devices import choose_device, compiled
from llmlib.cli.processes import Processes, StopRequest
from llmlib.cli.run_folder import CONFIG, RunFolder, train_config
from llmlib.cli.run_notes import changes, machine_changes
from llmlib.cli.run_start import new_run, resume_run, settings_like
from llmlib.cli.settings import check_flags
from llmlib.messages import quoted
from llmlib.model.architectures import new_model
from llmlib.model.gpt import GPT
from llmlib.pretrained.models import KNOWN_NAMES
from llmlib.training.checkpoint import Checkpoint
from llmlib.training.trainer import Trainer


def train_command(config: str | None = None, resume: str | None = None, **flags: object) -> int:
    """Do what the command line asks for; 0 after the last step, 130 if it was stopped before."""
    given = (settings_like(config) if config else {}) | check_flags(flags)
    start = partial(resume_run, resume) if resume else new_run
    with Processes() as processes:
        run = processes.by_writer(partial(start, **given))
        try:
            return train(run, processes)
        except KeyboardInterrupt:  # before the first step, or a second one: nothing new to save
            return stopped("stopped", run, processes)
        except Exception:  # whatever it is, a refusal leaves no folder behind
            if processes.is_writer and not (resume or run.has_begun()):
                run.discard()
            raise
        finally:
            run.file_lock.release()


def train(run: RunFolder, processes: Processes) -> int:
    """Train from where the run stands to its end, or until it is asked to stop."""
    settings = run.settings
    checkpoint = run.load() if run.has_begun() else None
    notes = checkpoint.notes if checkpoint else {}
    changed = changes(run.path / CONFIG, settings, run.changeable(), notes)
    processes.by_writer(partial(run.prepare_data, checkpoint))
    data = run.data()
    torch.manual_seed(settings.seed)
    first = first_weights(settings, checkpoint)  # none, unless it begins with a model
    vocab_size = len(first["wte.weight"]) if first else data.about["vocab_size"]
    config = config_of_run(settings, checkpoint, vocab_size)
    checks.affordable(config)
    if checkpoint:
        checks.sizes_of_model(run.path / CONFIG, config, checkpoint.weights)
    model = new_model(config)
    model.init_weights(settings.init_std)
    if checkpoint:
        checkpoint.load_into(model)
    elif first:
        model.load_state_dict(first)
    sizes = (model.config.context_length, settings.batch_size)
    loader = data.train_loader(*sizes, settings.seed, processes.rank, processes.world)
    trainer = make_trainer(model, run, peek(loader, settings.batch_size), processes)
    n_parameters, n_tokens = model.num_parameters(), data.about["train"]["n_tokens"]
    processes.say(f"{run.path}: {n_parameters:,} parameters, {n_tokens:,} tokens to train on")
    if (warmup := trainer.config.warmup()) != settings.warmup_steps:
        given, last = settings.warmup_steps, settings.max_steps
        processes.say(f"--warmup-steps {given} would fill all {last} steps: it takes {warmup}")
    if checkpoint:
        trainer.load_state_dict(checkpoint.training or {})
    for line in changed + machine_changes(model, notes):
        processes.say(line)
    if processes.rank:  # dropout must differ between processes, or they would learn less
        torch.manual_seed(hash((settings.seed, processes.rank, trainer.step)) % 2**63)
    processes.by_writer(partial(begin_records, run, data, trainer, checkpoint))
    if trainer.step >= settings.max_steps:
        processes.say(f"all {trainer.step:,} steps are taken: give --max-steps to go on")
        return 0
    return take_steps(run, trainer, loader, processes)


def begin_records(
    run: RunFolder, data: TokenData, trainer: Trainer, checkpoint: Checkpoint | None
) -> None:
    """Make the run's folder ready for the next step, once nothing is left that could be refused."""
    run.cut_back(checkpoint)
    recorder = Recorder(run, data)
    trainer.callbacks = [recorder]
    if checkpoint:
        recorder.catch_up(trainer, checkpoint)
    if trainer.step < run.settings.max_steps:
        run.write_settings()
    if trainer.step == 0:
        run.save("latest", trainer)


def make_trainer(model: GPT, run: RunFolder, first: Batch, processes: Processes) -> Trainer:
    """Return the trainer of a model, on its device, compiled on request, joined with others.

    first: a batch to try a device and compiling with.
    """
    settings = run.settings
    device, reason = choose_device(settings.device, model, first, processes.local_rank)
    if processes.any(device.type == "cpu") and device.type != "cpu":
        device, reason = torch.device("cpu"), "another process needs it"
    model.to(device)
    where = f" in each of {processes.world} processes" if processes.world > 1 else ""
    processes.say(f"device {device}{where}: {reason}")

    def wrap(loss: nn.Module) -> nn.Module:
        if settings.compile:
            loss, word = compiled(loss, first)
            processes.say(word)
        return DistributedDataParallel(loss) if processes.world > 1 else loss

    trainer = Trainer(model, train_config(settings), wrap=wrap)
    torch.manual_seed(settings.seed)  # whatever was drawn before: the steps begin here
    return trainer


def take_steps(run: RunFolder, trainer: Trainer, loader: DataLoader, processes: Processes) -> int:
    """Run the trainer's loop until its end or a request."""
    last = run.settings.max_steps
    hidden = None if processes.is_writer else True  # None: the bar is shown in a terminal only
    bar = tqdm(total=last, initial=trainer.step, unit="step", disable=hidden)
    with StopRequest() as stop, bar:
        for report in trainer.run(loader):
            speed = f"{report.tokens_per_second:,.0f} tokens/s"
            bar.set_postfix_str(f"loss {report.loss:.3f}, {speed}", refresh=False)
            bar.update()
            # all processes stop together, or those that are left would wait for ever
            if processes.any(stop.made) and trainer.step < last:
                if processes.is_writer:
                    run.save("latest", trainer)
                return stopped(f"stopped and saved at step {trainer.step:,}", run, processes)
    processes.say(f"done: llmlib generate --checkpoint {quoted(run.path, KNOWN_NAMES)}")
    return 0


def stopped(what: str, run: RunFolder, processes: Processes) -> int:
    """Say on stderr what has happened and which command goes on from there; return 130."""
    if processes.is_writer:
        command = f"{processes.command()} train --resume {quoted(run.path)}"
        warn(f"{what}; go on with: {command}")
    return 130
