"""The runtime of Apprentice. Importing it loads nothing heavy."""

import os

__version__ = "0.1.0"

# Else pydantic searches every installed package for plugins at each start, and would run what it finds.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
