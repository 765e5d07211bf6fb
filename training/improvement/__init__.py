"""The parts of `training.improve`: what it is made from, what it has done, how it measures, what it would take."""
