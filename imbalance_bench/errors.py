"""The one exception for what a user handed us."""


class InputError(ValueError):
    """Bad input from outside: a file, an option, a checkpoint.

    The message is one line that names the file, the field and what was expected; the command line prints it
    as it is and exits with status 2.
    """
