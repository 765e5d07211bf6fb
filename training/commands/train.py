"""`apprentice train`: from the record to weights. Each group of actions stands in a file of its own."""

from __future__ import annotations

import argparse

from training.commands import curate, dataset, export, sft, synthesize


def add_train(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make a dataset from what is on record, and a specialist from the dataset."
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    for module in (dataset, curate, synthesize, sft, export):
        module.add_actions(actions)
