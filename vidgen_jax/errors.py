"""Exceptions that the command line prints as one line, without a traceback."""

import os


class UserError(Exception):
  """An error in a flag, a config field, a file or a data set, which the user can correct.

  The message is one line that names the field or file and says what to do. The command line exits with status 2 and
  leaves no partially written file.
  """

  exit_status = 2
  """Exit status of the command."""


class RetryableError(UserError):
  """A temporary failure: the same command is likely to succeed when it is started again."""

  exit_status = os.EX_TEMPFAIL
