"""The one error that landing shows to people. Anything else that is raised here is a bug."""


class LandingError(Exception):
    """Says in one sentence what is wrong and, where it can, what to do about it."""
