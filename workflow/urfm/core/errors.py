"""The exceptions for mistakes a person can mend, and for files that cannot be used."""


class UrfmError(Exception):
    """Bad input or configuration. The message names the file, row or key, what was expected and what to do."""


class UnusableImage(Exception):
    """An image that cannot be used: a one-word `reason` (missing, unreadable, too_large, unsupported) and `detail`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
