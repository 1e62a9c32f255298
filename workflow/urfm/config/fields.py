"""Kinds of values that several sections have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

NAME = r"^[a-z][a-z0-9_]*$"


def _distinct(items: Any) -> Any:
    if twice := sorted({str(item) for item in items if list(items).count(item) > 1}):
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return items


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"[{pair[0]:g}, {pair[1]:g}] is in the wrong order; the lower number comes first")
    return pair


def _literal(path: str) -> str:
    if set(path) & set("{}\n"):
        raise ValueError(f"{path!r} holds a brace or a line break, which Snakemake takes for more; rename the folder")
    return path


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _each_colour(pair: Any) -> Any:
    if not isinstance(pair, list | tuple):
        return pair
    return tuple(tuple(item) if isinstance(item, list | tuple) else (item,) * 3 for item in pair)


Distinct = AfterValidator(_distinct)
UNIQUE = {"uniqueItems": True}

Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(min_length=1)]
Folder = Annotated[str, Field(min_length=1), AfterValidator(_literal)]
Sha256 = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Address = Annotated[str, Field(pattern="^https://")]

Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Percent = Annotated[int, Field(ge=1, le=100)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]  # a share or probability of which nothing is left at 1
Level = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]

Pooling = Literal["mean", "cls"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
Resize = Literal["squash", "crop"]
Dpi = Annotated[int, Field(ge=72, le=1200)]

Colour = tuple[float, float, float]
Spread = tuple[Positive, Positive, Positive]
# Mean and deviation of red, green and blue in [0, 1]; or one number each, for grey images.
_Written = tuple[Colour, Spread] | tuple[float, Positive]
Colours = Annotated[tuple[Colour, Spread], BeforeValidator(_each_colour, json_schema_input_type=_Written)]
Betas = tuple[BelowOne, BelowOne]
Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Shares = Annotated[tuple[Share, Share], AfterValidator(_rising)]

IMAGENET: tuple[Colour, Colour] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

AnyNames = Annotated[list[Name], Field(json_schema_extra=UNIQUE), Distinct]  # or none
Names = Annotated[list[Name], Field(min_length=1, json_schema_extra=UNIQUE), Distinct]
NameOrNames = Annotated[Names, BeforeValidator(_as_list, json_schema_input_type=Name | Names)]
# A list that urfm.plan.completion fills in: names of tasks, and of lists of tasks.
Tasks = Annotated[AnyNames, BeforeValidator(_as_list, json_schema_input_type=Name | AnyNames)]
Seeds = Annotated[list[WholeNumber], Field(min_length=1, json_schema_extra=UNIQUE), Distinct]
Percents = Annotated[list[Percent], Field(min_length=1, json_schema_extra=UNIQUE), Distinct]
AnySeeds = Annotated[list[WholeNumber], Field(json_schema_extra=UNIQUE), Distinct]
