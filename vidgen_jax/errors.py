"""The exceptions that are shown as a single line, without a traceback: somebody can mend this."""

import os


class UserError(Exception):
  """A mistake in a flag, a config field, a file or a data set.

  The message is one line, names the field or file, and says what to do. The command line prints it and exits with
  status 2; nothing half-written is left behind.
  """

  exit_status = 2
  """Of the command."""


class RetryableError(UserError):
  """Nobody's mistake: the same command, given again, will most likely go on."""

  exit_status = os.EX_TEMPFAIL
