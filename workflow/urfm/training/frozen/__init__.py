"""Classifiers on features that are not trained: of encoders, of thumbnails, of nothing."""
