"""Published weights of other frameworks, their conversion, and the file format in which this package keeps weights."""
