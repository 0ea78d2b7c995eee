"""The one error that the command lines turn into a sentence."""


class InputError(ValueError):
    """Bad input from the user: the message is one sentence that names the culprit and says what to do."""
