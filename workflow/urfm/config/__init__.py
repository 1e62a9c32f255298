"""The one definition of every setting: pydantic classes, without torch, that stages, checks and docs share.

`configuration.Configuration` is the whole of config.yaml and the catalogue. Where a stage is told what a section says,
the stage's class inherits from the section's, so a bound stands in one place.
"""
