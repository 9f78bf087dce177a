"""What each of two processes does in `test_two_processes_make_the_steps_of_one`; started by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from glip.training.batches import Share, read_batches
from glip.training.distributed import Processes
from glip.training.loop import fit
from glip.training.settings import FitSettings, Rates, Schedule
from tests.tiny import letters_tokenizer, tiny_model
from tests.training.images import SquareStream

SETTINGS = FitSettings(
    schedule=Schedule(steps=3, warmup=0), rates=Rates(base=1e-4, text=1e-4), dropout=False, log_every=1, save_every=0
)


def main(out: Path) -> None:
    processes = Processes(device="cpu")
    assert processes.world_size == 2
    model = tiny_model()
    share = Share(2, processes.world_size, processes.rank)
    fit(
        model,
        lambda steps: read_batches(SquareStream(), letters_tokenizer(), share, steps),
        SETTINGS,
        out / "two",
        processes=processes,
    )
    if processes.is_main:
        torch.save({name: value.detach() for name, value in model.named_parameters()}, out / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
