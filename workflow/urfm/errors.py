"""The one exception for mistakes a person can mend."""


class UrfmError(Exception):
    """Bad input or configuration. The message names the file, row or key, what was expected and what to do."""
