"""Sums over processes, and signals where they can be caught."""

from __future__ import annotations

import signal
import threading
from typing import Any

import torch

from training.learning import processes


class TwoProcesses:
    """Stands for a second process that has computed the same: what is reduced is doubled."""

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return 2 * tensor


def test_gradients_and_what_is_told_are_added_up_as_one() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    weights[0].grad = torch.arange(6.0).view(2, 3)
    sums = processes.add_up(TwoProcesses(), torch.tensor([1.5, 0.0]), weights)
    assert sums.tolist() == [3.0, 0.0]
    assert torch.equal(weights[0].grad, 2 * torch.arange(6.0).view(2, 3))
    assert weights[1].grad is not None
    assert weights[1].grad.tolist() == [0.0] * 4, "a process without examples adds nothing"


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGINT)
    found: list[Any] = []

    def work() -> None:
        with processes.signals() as seen:
            found.extend([seen, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[], before]


def test_a_cpu_tells_the_memory_of_the_process() -> None:
    cpu = torch.device("cpu")
    assert processes.memory(cpu) > 50_000_000
    assert processes.device_name(cpu) == "cpu"
