"""The exit codes of `monitor-contact`, and the one exception that carries one."""

from collections.abc import Sequence
from typing import ClassVar, Final

# Those of `call` are by outcome: `reasons.Advice`, `call.EXIT_UNWRITTEN`, and EXIT_FAILED where nobody answered.
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130


class CannotStartError(Exception):
    """A command cannot do its work; `problems` has one line per fault: what is wrong and what would be right."""

    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
