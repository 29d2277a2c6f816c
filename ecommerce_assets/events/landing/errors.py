"""The error that the command shows to users. Any other exception is a bug."""


class LandingError(Exception):
    """A file, an option or a data dir cannot be used; the message says what is wrong, where, and what to do."""
