"""The one definition of every setting: pydantic classes, without torch, that stages, checks and docs share."""
