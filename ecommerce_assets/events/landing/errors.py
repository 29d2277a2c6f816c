"""The one error that landing shows to people. Any other exception is a bug."""


class LandingError(Exception):
    """Says in one sentence what is wrong, where, and what to do."""
