"""The HTML report: what is in it, what the results folder says, and the page."""
