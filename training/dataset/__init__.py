"""From traces, gold files and agent output to a dataset folder whose rows are known to be right."""
