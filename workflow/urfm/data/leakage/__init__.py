"""Which images occur twice: within data sets, across them, and between pre-training and test."""
