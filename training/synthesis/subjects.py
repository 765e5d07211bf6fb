"""What synthetic papers and tasks are about: chance picks from these lists, so that a teacher repeats itself less."""

from __future__ import annotations

import random

AREAS = """
agents that use tools; retrieval for question answering; code generation; program repair; testing of web applications;
robot grasping; speech recognition for rare languages; recommendation with few clicks; graph neural networks;
federated learning on phones; compilers for accelerators; database indexing; network congestion; static analysis;
human-computer interaction; privacy of location data; computer graphics; formal verification; cloud scheduling;
image segmentation; time series forecasting; cryptographic protocols; education with tutoring systems; accessibility;
antibiotic resistance; gut bacteria; sleep and memory; heart failure; gene editing; vaccine response; malaria vectors;
protein folding; wound healing; bone growth; diabetes care; hearing loss; stroke rehabilitation; cancer imaging;
coral reefs; soil carbon; crop disease; bird migration; battery materials; solar cells; catalysts; urban heat;
earthquake early warning; ocean currents; glacier melt; water treatment; traffic safety; housing prices; voting
behaviour; language learning in children; labour markets; museum archives; historical handwriting; music perception
"""
KINDS = """
a new system with a measured comparison; a controlled experiment; a survey of earlier work; a benchmark or data set;
a theoretical result with a proof; a field study over several years; a user study with interviews; a negative result;
a replication of earlier work; a method with an ablation; a clinical trial; a position with recommendations
"""
FEATURES = """
name one limitation that the authors admit; give two exact percentages; compare with two named baselines;
say what follows for practice; give the sample size; say in what it is the first; report a cost in hours or money;
state no comparison with earlier work; state no implication; report a result that was worse than hoped;
mention a public release; name three data sources; give a confidence interval; give no numbers at all
"""


def pick(kind: str, chance: random.Random) -> str:
    """One entry of a list of this file."""
    return chance.choice(_entries(kind))


def two(kind: str, chance: random.Random) -> list[str]:
    """Two different entries of a list of this file."""
    return chance.sample(_entries(kind), 2)


def _entries(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(";")]
