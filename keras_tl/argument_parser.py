"""Options of commands and recipes, where a wrong one is answered in one line."""

import argparse
from typing import Any, NoReturn

from keras_tl.errors import did_you_mean
from keras_tl.exit_codes import BAD_INPUT


class ArgumentParser(argparse.ArgumentParser):
    """Answers a wrong option in one line, with what was probably meant."""

    def __init__(self, **options: Any):
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter, **options
        )

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            known = [name for action in self._actions for name in action.option_strings]
            hint = did_you_mean(message.removeprefix(prefix).split()[0], known)
            message = f"{message}. {hint}".strip()
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")
