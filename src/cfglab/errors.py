"""The errors a user meets. Every message repeats the value, states the rule and offers the next step, on one line."""


class CfglabError(Exception):
    """Base of all errors raised on purpose. The command line prints the message and exits with `exit_code`."""

    exit_code = 2


class InputError(CfglabError, ValueError):
    """What was asked for is wrong: a value, a name, a file, a folder."""


class NotMatchable(InputError):
    """A schedule cannot reach the wanted dose within the limit on its scale."""


class NotFinite(InputError):
    """A prediction became NaN: the network or the guidance overflowed."""


class MachineError(CfglabError):
    """The machine failed: a full disk, a folder that cannot be written, memory."""

    exit_code = 1
