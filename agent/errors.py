"""Every error that may reach a person, as one tree.

ApprenticeError                what failed, on what, what to do next; its exit code
├── UsageError          2      the command line or the task's wording
├── ConfigError         2      a setting, named with its file, key and allowed values
├── InputError          2      a file or text that cannot be used
├── ConsentDenied       3      an effect that nobody allowed
├── ModelError          4      a model failed
│   ├── ModelUnavailable       not there: no file, no server, no such name
│   ├── ModelRefused           the server said no: wrong key, forbidden, bad request
│   ├── ModelCut               the reply broke off or was not understood
│   └── ContextOverflow        the prompt is longer than the context (both numbers)
├── OutputError         5      a result could not be written
├── StoreError          6      the trace store
└── ToolError           7      a tool failed; inside the loop it becomes an observation
"""

from __future__ import annotations


class ApprenticeError(Exception):
    """A failure told to a person.

    Args:
        message: one sentence: what failed, on what input.
        hint: what to do next; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def in_one_line(self) -> str:
        """The message and the hint, as sentences one after the other."""
        stop = "" if self.message.endswith((".", "!", "?", ":")) else "."
        return f"{self.message}{stop} {self.hint}" if self.hint else self.message


class UsageError(ApprenticeError):
    exit_code = 2


class ConfigError(ApprenticeError):
    exit_code = 2


class InputError(ApprenticeError):
    exit_code = 2


class ConsentDenied(ApprenticeError):
    exit_code = 3


class ModelError(ApprenticeError):
    exit_code = 4


class ModelUnavailable(ModelError):
    pass


class ModelRefused(ModelError):
    pass


class ModelCut(ModelError):
    pass


class ContextOverflow(ModelError):
    """The prompt does not fit. Carries both numbers, in tokens."""

    def __init__(self, needed: int, limit: int, hint: str = "") -> None:
        super().__init__(f"the prompt needs {needed} tokens and the model's context holds {limit}", hint)
        self.needed = needed
        self.limit = limit


class OutputError(ApprenticeError):
    exit_code = 5


class StoreError(ApprenticeError):
    exit_code = 6


class ToolError(ApprenticeError):
    exit_code = 7


class TrainingError(ApprenticeError):
    exit_code = 8
