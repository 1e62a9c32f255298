"""Splits of a data set between patients, and shares of a training part."""
