"""Splits of a data set between patients, and shares of a training part.

`division` makes a split, `published` takes one that others made, `checks` says what is wrong with it; `stage` writes a
task's split. `shares` takes fewer patients of its training part.
"""
