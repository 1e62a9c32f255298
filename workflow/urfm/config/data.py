"""Data sets, tasks, splits, and what is simulated, kept and audited of images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from urfm.config.fields import Address, Count, Dpi, Name, NameOrNames, Text, WholeNumber
from urfm.core.cli import Settings

ReaderName = Literal[
    "aul", "buid", "busbra", "buv", "camus", "fetal_planes", "generic", "lepset", "lepset_unlabelled", "mmotu",
    "radimagenet", "uf1990", "ultrasoundcases",
]  # fmt: skip
WITH_FOLDERS = ("radimagenet", "uf1990")  # readers that take `folders`

Checksum = Annotated[str, Field(pattern=r"^(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?$")]
Record = Annotated[str, Field(pattern=r"^(zenodo:[0-9]+|mendeley:[a-z0-9]+/[0-9]+)?$")]
FromPatient = Literal["all", "first"]
Check = Literal["times", "contents"]
Used = Annotated[int, Field(ge=8, le=16)]
Ratio = tuple[Count, Count, Count]
Bits = Annotated[int, Field(ge=0, le=64)]


class RemoteFile(Settings):
    """A file as its publisher names it."""

    name: str = Field(pattern=r"^[^./\\][^/\\]*$", description="file name; zip, tar, tar.gz and tar.xz are unpacked")
    url: str = Field(description="address of the file itself")
    hash: Checksum = Field(default="", description="the publisher's checksum; left out: none is published")


class PublishedFile(RemoteFile):
    """A file to fetch."""

    url: Address = Field(description="address of the file itself")


class Publication(Settings):
    """Where something is published."""

    licence: Text = Field(description="what its publisher allows")
    where: Address = Field(description="address of the page")
    record: Record = Field(
        default="",
        description="where files are not named: zenodo:<record> or mendeley:<data set>/<version>, which is asked",
    )
    files: tuple[RemoteFile, ...] = Field(
        default=(), description="what is known of the files; then `record` is not asked"
    )
    nested: bool = Field(default=False, description="true: archives inside the archives are unpacked too")


class Origin(Publication):
    """Where it is published, and how to get it; part of no result."""

    access: Literal["open", "web", "form", "request"] = Field(
        description="open: `snakemake download` fetches it; web: by hand from a page; form: after a form; request: ask "
        "somebody"
    )
    steps: str = Field(default="", description="what a person does there, in a sentence or two")
    files: tuple[PublishedFile, ...] = Field(
        default=(),
        min_length=1,
        description="what to fetch; archives are unpacked; of a model or teacher one file, which gets the name `file`",
    )
    images: Count | None = Field(default=None, description="images in what is published, where the paper counts others")


class Expected(Settings):
    """Counts that the paper or the publisher states; a difference is reported, and what is left out is not compared."""

    images: Count | None = Field(default=None, description="images")
    patients: Count | None = Field(default=None, description="patients")
    labels: dict[str, Count] = Field(default_factory=dict, description="images of each label value")


class ProxyPatients(Settings):
    """When two images without a patient id count as one patient's; left out, each is a patient of its own."""

    distance: Bits = Field(description="bits, of 192, in which near duplicates may differ; copies are within 36 (D25)")
    places: Count | None = Field(
        default=None, description="and by how much their frame numbers may differ; left out, by anything"
    )


class Archive(Settings):
    """What a data set's reader is told."""

    folder: Text = Field(description="below data_root")
    patients: Name = Field(
        default="",
        description="data sets with the same name here share patient ids, as those of one hospital; left out, none",
    )
    folders: dict[str, Text] = Field(
        default_factory=dict,
        description="class folders that the reader does not know; uf1990: folder: label, radimagenet: folder: organ",
    )
    proxy_patients: ProxyPatients | None = Field(
        default=None, description="near duplicates among images without a patient id form one patient"
    )
    expected: Expected = Field(default=Expected(), description="counts of the whole archive; a difference is reported")
    bits: Used | None = Field(
        default=None,
        description="how many of 16 bits grey values use, as 12; left out: of each image the fewest of 8, 12 and 16 "
        "that hold its highest value (D90)",
    )
    blank: Literal["exclude", "keep"] = Field(
        default="exclude", description="what happens to images of which all pixels are equal"
    )


class Dataset(Archive):
    """An archive."""

    reader: ReaderName = Field(description="a reader of urfm.data.datasets")
    organ: NameOrNames = Field(
        description="a name under organs, or a list of them: then the archive's metadata say it of each image"
    )
    source: Text = Field(description="the name tables print")
    origin: Origin | None = Field(default=None, description="where the archive is published, and how to get it")

    @field_validator("reader")
    @classmethod
    def _takes_folders(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("folders") and value not in WITH_FOLDERS:
            raise ValueError(f"{value} takes no `folders`; {' and '.join(WITH_FOLDERS)} do")
        return value


class Task(Settings):
    """A downstream task."""

    title: Text = Field(description="what figures and tables print")
    dataset: Name = Field(description="a name under datasets")
    group: Literal["superficial", "abdominal", "other", "external"] = Field(description="panel of figure 2")
    classes: dict[str, str] = Field(
        min_length=2, description="label value in the manifest: name to print; in the order of the outputs"
    )
    positive: str = Field(
        default="",
        description="of two classes the label value that is positive in ROC curves, as the disease is; left out: the "
        "second",
    )
    external: Name = Field(
        default="", description="a task of the same classes, whose images the models of this one predict unchanged"
    )
    ultrabench: Text = Field(default="", description="folder of UltraBench's output for this task, below data_root")
    images_per_patient: FromPatient = Field(default="all", description="first: the first image id in sort order")
    expected: Expected = Field(default=Expected(), description="counts of the task's images; a difference is reported")


class Splits(Settings):
    """How each task's images are divided; patients are never shared between parts."""

    ratio: Ratio = Field(description="train : val : test")
    seed: WholeNumber = Field(description="of the split paper; another seed gives another split")


class Images(Settings):
    """The uint8 image store."""

    long_side: int = Field(ge=32, description="pixels; larger images are reduced, smaller ones kept")


class NearDuplicates(Settings):
    """What counts as a near duplicate."""

    distance: Bits = Field(description="bits, of 192, in which the hashes of near duplicates may differ")


class Audit(NearDuplicates):
    """Duplicates within data sets, and between pre-training and tasks."""

    sheet_pairs: Count = Field(description="pairs on the contact sheet")
    sheet_dpi: Dpi = Field(description="of the contact sheet's PNG")


class Simulated(Settings):
    """A data set to simulate, for demonstration only; one that shares its folder with such a set comes with it."""

    patients: int = Field(
        ge=2, description="cases to simulate, each of one image or more; for radimagenet images, for buv videos"
    )
    seed: WholeNumber = Field(description="of everything random in the data set")
