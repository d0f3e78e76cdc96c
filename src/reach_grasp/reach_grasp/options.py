# SPDX-License-Identifier: Apache-2.0
"""The parser of the command line: one spelling of flags, and one sentence for what is wrong, in the words that were typed."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from reach_grasp.errors import CommandError
from reach_grasp.values import nearest

_REWORDED = {
    "expected one argument": "needs a value",
    "expected at least one argument": "needs at least one value",
    "ignored explicit argument": "takes no value, but was given",
    "not allowed with argument": "cannot be given beside",
}


class Parser(argparse.ArgumentParser):
    """Raises CommandError instead of printing its usage. typed: how the user wrote a flag, where that was another way."""

    def __init__(self, *args: Any, typed: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **options)
        self._typed = typed or {}

    @property
    def flags(self) -> list[str]:
        """Every flag that it knows."""
        return [flag for action in self._actions for flag in action.option_strings]

    @property
    def _verb(self) -> str:
        return self.prog.split()[-1]

    def error(self, message: str) -> NoReturn:
        """Raise CommandError with argparse's message as a sentence about what the user typed."""
        if named := re.fullmatch(r"argument ([^\s:]+): (.*)", message, re.DOTALL):
            flag = named[1].split("/")[-1]
            message = f"{self._typed.get(flag, flag)} {named[2]}"
        elif message.startswith("the following arguments are required: "):
            message = f"{self._verb} needs {message.split(': ', 1)[1].replace('VERB', 'a verb')}; see {self.prog} --help"
        for theirs, ours in _REWORDED.items():
            message = message.replace(theirs, ours)
        raise CommandError(message)

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """Raise CommandError for words that nothing takes."""
        flag = words[0].split("=")[0]
        typed = self._typed.get(flag, flag)
        if not flag.startswith("-"):
            raise CommandError(f"{self._verb} has no use for {flag!r}; see {self.prog} --help")
        near = nearest(flag, self.flags)
        if typed != flag:
            near = near.replace("did you mean --", "did you mean ").replace("-", "_")
        raise CommandError(f"{self._verb} has no {typed}{near or f'; see {self.prog} --help'}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Like argparse's, with the nearest choice."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            if isinstance(action, argparse._SubParsersAction):
                raise CommandError(f"there is no verb {value!r}{nearest(value, choices) or f'; see {self.prog} --help'}")
            allowed = f"is {str(value)!r}, allowed is one of {', '.join(choices)}"
            raise argparse.ArgumentError(action, allowed + nearest(str(value), choices))


def normalized(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words with every flag spelled with hyphens, and how the user wrote the flags that were changed.

    `real_time_factor:=2` and `--real_time_factor 2` become `--real-time-factor`; what follows `--` stays.
    """
    found, typed = [], {}
    for index, word in enumerate(words):
        if word == "--":
            return [*found, *words[index:]], typed
        if (launch := re.fullmatch(r"([A-Za-z]\w*):=(.*)", word, re.DOTALL)) is not None:
            flag = "--" + launch[1].replace("_", "-")
            typed[flag] = launch[1]
            word = f"{flag}={launch[2]}"
        elif word.startswith("--") and "_" in word.split("=")[0]:
            written, equals, value = word.partition("=")
            flag = written.replace("_", "-")
            typed[flag] = written
            word = flag + equals + value
        found.append(word)
    return found, typed
