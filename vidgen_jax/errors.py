"""The one exception that means "the user can mend this": shown as a single line, without a traceback."""


class UserError(Exception):
  """A mistake in a flag, a config field, a file or a data set.

  The message is one line, names the field or file, and says what to do. The command line prints it and exits with
  status 2; nothing half-written is left behind.
  """
