"""The error that the command lines print as one sentence, and checks of settings."""
from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user: the message is one sentence that names the culprit and says what to do."""


def check_names(given: Iterable[str], valid: Iterable[str], what: str) -> None:
    """Refuse unknown names.

    Args:
        given: The names that were given.
        valid: The names that exist.
        what: The owner of the names, for the message: ``'tuning'``.

    Raises:
        InputError: Naming the first unknown name, the nearest valid one and all others.
    """
    valid = list(valid)
    for name in given:
        if name not in valid:
            near = difflib.get_close_matches(str(name), valid, n=1)
            hint = f': did you mean {near[0]!r}? The' if near else '; the'
            raise InputError(f'{what} has no setting {name!r}{hint} settings are {", ".join(valid)}')


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value of a setting that is none of its choices.

    Args:
        name: The setting, for the message: ``'sampling'``.
        value: What was given.
        choices: The valid values.

    Raises:
        ValueError: Naming the setting, the value and the choices; who knows the config adds its name.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(f'unknown {name} {value!r}: choose one of {", ".join(map(str, choices))}')


def check_distinct(values: Iterable[object], what: str) -> None:
    """Refuse a value that is given twice.

    Args:
        values: The values.
        what: The kind of the values, in the plural, for the message: ``'seeds'``.

    Raises:
        InputError: Naming the first repeated value.
    """
    seen: list[object] = []
    for value in values:
        if value in seen:
            raise InputError(f'{what} has {value} twice: leave one of them out')
        seen.append(value)
