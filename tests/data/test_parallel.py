"""Many processes, one result: in order, with every error, and nothing left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest
import torch

from llmlib.data.parallel import parallel_map

METHODS = [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()]


def square(n):
    time.sleep(0.001 * (n % 3))
    return n * n


def refuse_seven(n):
    if n == 7:
        raise ValueError("7 is refused")
    return n


def die_at_seven(n):
    if n == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def own_number(_):
    return os.getpid()


def answer_much(n):
    return bytes(n)


def nap(seconds):
    time.sleep(seconds)


def nap_whatever_comes(seconds):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(seconds)


def is_frozen(_):
    return gc.get_freeze_count() > 0


def nested(n):
    return list(parallel_map(square, range(n), 2))


def children():
    return multiprocessing.active_children()


@contextmanager
def kills_after(seconds):
    """Kill what still runs then: a test of processes that do not end fails in place of hanging."""
    timer = threading.Timer(seconds, lambda: [child.kill() for child in children()])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.mark.parametrize("n_processes", [1, 2, 5])
@pytest.mark.parametrize("n_items", [0, 1, 2, 40])
def test_results_come_in_order(n_processes, n_items):
    expected = [n * n for n in range(n_items)]
    assert list(parallel_map(square, range(n_items), n_processes)) == expected
    assert not children()


@pytest.mark.slow
@pytest.mark.skipif("spawn" not in METHODS, reason="no spawn here")
def test_processes_may_be_spawned():
    assert list(parallel_map(square, range(9), 2, method="spawn")) == [n * n for n in range(9)]
    assert not children()


def test_as_many_processes_work_as_are_asked_for():
    assert len(set(parallel_map(own_number, range(20), 3)) - {os.getpid()}) == 3
    assert set(parallel_map(own_number, range(20), 1)) == {os.getpid()}


def test_large_items_and_answers_do_not_block_each_other():
    sizes = [3_000_000] * 6
    assert [len(x) for x in parallel_map(answer_much, sizes, 2)] == sizes
    assert list(parallel_map(len, [bytes(n) for n in sizes], 2)) == sizes


def test_an_error_in_a_process_comes_here_and_ends_the_others():
    results = []
    with pytest.raises(ValueError, match="7 is refused"):
        for n in parallel_map(refuse_seven, range(30), 3):
            results.append(n)
    assert results == [*range(7)] and not children()


def test_a_process_that_is_killed_is_noticed():
    with pytest.raises(ChildProcessError, match="ended from outside"):
        list(parallel_map(die_at_seven, range(30), 3))
    assert not children()


def test_an_error_in_the_items_ends_the_processes():
    def items():
        yield from range(5)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(parallel_map(square, items(), 2))
    assert not children()


def test_leaving_early_ends_the_processes():
    with closing(parallel_map(square, range(1000), 2)) as results:
        assert next(results) == 0
        assert len(children()) == 2
    assert not children()


def test_what_a_process_shares_with_the_first_is_never_collected():
    assert all(parallel_map(is_frozen, range(2), 2))


def test_processes_end_at_once_though_the_first_one_ignores_signals():
    before, begin = signal.signal(signal.SIGTERM, signal.SIG_IGN), time.monotonic()
    try:
        with kills_after(300), closing(parallel_map(nap, [0, 600, 600], 2)) as results:
            next(results)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not children() and time.monotonic() - begin < 300


def test_processes_end_at_once_though_they_ignore_signals_themselves():
    """As one does that has hardly begun, if the first one ignores them."""
    begin = time.monotonic()
    with kills_after(300), closing(parallel_map(nap_whatever_comes, [0, 600, 600], 2)) as results:
        next(results)
    assert not children() and time.monotonic() - begin < 300


def test_inside_of_a_process_the_work_is_done_there():
    assert list(parallel_map(nested, [3, 4], 2)) == [[0, 1, 4], [0, 1, 4, 9]]


def test_a_program_whose_torch_has_threads_may_fork():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        torch.randn(300, 300) @ torch.randn(300, 300)
        for _ in range(5):
            assert list(parallel_map(square, range(8), 2))[-1] == 49
        assert (torch.ones(300, 300) @ torch.ones(300, 300)).sum() == 300**3
    finally:
        torch.set_num_threads(before)


PROGRAM = """
import sys, time
from llmlib.data.parallel import parallel_map
def work(n):
    print(n, flush=True)
    time.sleep(0.05)
if __name__ == "__main__":
    try:
        list(parallel_map(work, range(10_000), 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def group_of(process):
    """The processes of a group that are there."""
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.getpgid(int(number)) == process.pid:
                state = open(f"/proc/{number}/stat").read().rsplit(")")[1].split()[0]  # noqa: SIM115
                found += [number] * (state != "Z")
    return found


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
@pytest.mark.parametrize("number", ["SIGINT", "SIGKILL", "SIGTERM", "SIGINT to all"])
def test_no_signal_leaves_a_process_behind(tmp_path, number):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert len([process.stdout.readline() for _ in range(3)]) == 3  # both are at work
    assert len(group_of(process)) == 3
    kill = os.killpg if number.endswith("all") else os.kill
    kill(process.pid, getattr(signal, number.split()[0]))
    errors = process.communicate(timeout=600)[1]
    assert not errors, "no traceback, of any process"
    assert process.returncode == (130 if "INT" in number else -getattr(signal, number))
    deadline = time.monotonic() + 600
    while group_of(process) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not group_of(process)
