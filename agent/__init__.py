"""The runtime of Apprentice. Importing it loads nothing heavy."""

__version__ = "0.1.0"
