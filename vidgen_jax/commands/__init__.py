"""The commands of `vidgen`, one module each, and the parsing of flags."""
