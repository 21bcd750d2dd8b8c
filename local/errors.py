"""What a command cannot do, in one line that says what would be right."""

from oncetask.errors import OnceTaskError


class CommandError(OnceTaskError):
    """What was asked for cannot be done; the text is one line for the one who asked."""


class NotDone(OnceTaskError):  # noqa: N818 - all has been said on the screen
    """What was asked for was not done, and the screen says so already: only the status is left to tell."""
