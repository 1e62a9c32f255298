"""What is compared and drawn: comparisons, figures, and the numbers and claims that the paper prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from urfm.config.fields import (
    AnyNames,
    Count,
    Dpi,
    Level,
    Name,
    Names,
    Percents,
    Positive,
    Range,
    Tasks,
    Text,
    WholeNumber,
)
from urfm.core.cli import Settings
from urfm.metrics import MetricName

Subset = Literal["test", "external"]
Bound = Annotated[float, Field(gt=0, lt=100)]


class Comparison(Settings):
    """Models that are fine-tuned on tasks."""

    title: Text | None = Field(
        default=None, description="heading of its table and of its section of the report: its name if left out"
    )
    models: Names = Field(description="names under models, in the order they are drawn")
    lines: AnyNames = Field(
        default=[],
        description="names under models that are drawn as lines across the bars, such as majority and thumbnails: what "
        "models should beat; without P or rank",
    )
    reference: Name = Field(description="one of models: P values compare the other ones with it")
    against: Names | None = Field(
        default=None,
        description="models whose strongest the P values in its figure name, and that have P in its table; left out: "
        "all others",
    )
    tasks: Tasks = Field(
        description="names under tasks, or of task_lists, in the order they are drawn; none: the comparison is left out"
    )
    shares: Percents = Field(description="percent of the training part")
    metric: MetricName | None = Field(
        default=None,
        description="the score that its own figure and table show first; left out: in the order of figure 2",
    )
    subset: Subset = Field(default="test", description="images that are scored; external: those of tasks.*.external")
    claims_only: bool = Field(
        default=False,
        description="true: for tables.claims alone; it has no figure or table, and of its cells those that other "
        "comparisons train",
    )


class Figure1(Settings):
    """Overview of the study."""

    run: Name = Field(description="panel A: a name under pretraining.runs, whose images are counted")
    comparison: Name = Field(description="panel C: a name under comparisons, whose F1 is averaged")
    sample: Name = Field(description="panel B: one of figure_6.tasks, whose image shows the method")
    tasks: Tasks = Field(description="panel D: names under tasks, of which images are shown")


class Figure2(Settings):
    """Every model on every task."""

    comparison: Name = Field(description="a name under comparisons")


class Figure3(Settings):
    """External validation."""

    fine_tuned: Name = Field(description="panel A: a name under comparisons")
    unchanged: Name = Field(description="panel B: a name under comparisons, one with subset external")


class Figure4(Settings):
    """Self-supervised methods and targets."""

    methods: Name = Field(description="panel A: a name under comparisons, self-supervised methods on ImageNet")
    targets: Name = Field(description="panel B: a name under comparisons, targets of masked image modelling")


class Figure5(Settings):
    """Models of one organ."""

    comparison: Name = Field(description="a name under comparisons; its reference is what the models are compared with")


class Maps(Settings):
    """At what figure 6 looks."""

    images: Count = Field(description="test images of each task whose maps are compared, at most")
    attention: Literal["decoder", "encoder"] = Field(
        description="whose last layer's [CLS] token attends: the decoder's, as it reconstructs masked images; or the "
        "pre-trained encoder's, of the whole image"
    )


class Figure6(Maps):
    """Attention and class activation maps."""

    tasks: Tasks = Field(description="names under tasks, or of task_lists, one row each")


class Embedding(Settings):
    """How figure 7 chooses images and places them."""

    images: Count = Field(description="images of each data set, at most")
    perplexity: Positive = Field(description="of t-SNE; less where there are too few images")
    seed: WholeNumber = Field(description="of the choice of images and of t-SNE")


class Figure7(Embedding):
    """t-SNE of embeddings."""

    before: Name = Field(description="a name under models: the encoder before pre-training")
    tasks: Tasks = Field(description="names under tasks, or of task_lists, whose data sets and classes are embedded")


class Figure8(Settings):
    """Scaling and label efficiency."""

    data: Name = Field(description="panel A: a name under comparisons, pre-training data")
    model_size: Name = Field(description="panel B: a name under comparisons")
    labels: Name = Field(description="panels C and D: a name under comparisons; D draws its largest share")


class Figures(Settings):
    """The paper's figures; figures 2, 3, 4, 5 and 8 name the comparison that each panel draws."""

    dpi: Dpi = Field(description="of the PNG of each figure")
    model: Name = Field(
        description="what figures 1, 6 and 7 look at: a name under models; figures 1B and 6 need its decoder, so one "
        "that is pre-trained here or has the key `decoder`"
    )
    figure_1: Figure1 = Field(description="overview of the study")
    figure_2: Figure2 = Field(description="every model on every task")
    figure_3: Figure3 = Field(description="external validation")
    figure_4: Figure4 = Field(description="self-supervised methods and targets")
    figure_5: Figure5 = Field(description="models of one organ")
    figure_6: Figure6 = Field(description="attention and class activation maps")
    figure_7: Figure7 = Field(description="t-SNE of embeddings")
    figure_8: Figure8 = Field(description="scaling and label efficiency")


class Table1(Settings):
    """Pre-training images by organ and source."""

    run: Name = Field(description="a name under pretraining.runs, whose images are counted")
    paper: dict[Name, dict[str, Count]] = Field(
        description="the paper's numbers: a name under organs, then a source of datasets, then images"
    )
    notes: list[str] = Field(description="printed below the table: what explains differences from the paper")


class Table2(Settings):
    """Tasks, data sets, classes and images."""

    tasks: Tasks = Field(description="names under tasks, or of task_lists, in the order of the rows")
    notes: dict[Name, str] = Field(
        description="a name under tasks: what explains a difference from the paper, printed below the table"
    )


class Table3(Settings):
    """Images of the organ-specific pre-training runs."""

    paper: dict[Name, Count] = Field(
        description="a name under pretraining.runs: the paper's number of images; in the order of the rows"
    )
    notes: list[str] = Field(description="printed below the table: what explains differences from the paper")


class Statement(Settings):
    """A number of the paper's text, in percent or percentage points."""

    comparison: Name = Field(description="a name under comparisons, whose statistics hold ours")
    task: Name = Field(description="a name under tasks, or average: the mean over the comparison's tasks")
    model: Name = Field(description="a name under models")
    metric: MetricName = Field(description="which score")
    quantity: Literal["score", "lead", "best_other"] = Field(
        default="score", description="the model's score, its lead over the best other model, or that one's score"
    )
    value: float = Field(description="the paper's, percent or points")
    interval: Range | None = Field(default=None, description="the paper's confidence interval")
    says: Text = Field(description="where the paper says it, and in which words")


class Win(Settings):
    """One model is better than others on tasks."""

    better: Name = Field(description="a model")
    worse: Names | Literal["strongest"] = Field(description="models, or strongest: the best other one of each task")
    tasks: Tasks = Field(default=[], description="names under tasks, or of task_lists; left out: all of the comparison")


# What a claim of each kind is made of, besides what every one has.
TESTED = {"comparison", "metrics", "wins"}
KINDS = {
    "better": TESTED | {"level"},
    "marginal": TESTED | {"margin"},
    "below": {"comparison", "metrics", "bound", "model"},
    "above": {"comparison", "metrics", "bound", "model"},
    "faster": {"comparison", "level", "wins"},
    "untested": {"because"},
}
OPTIONAL = {"better": {"average"}, "marginal": {"average"}, "below": {"tasks"}, "above": {"tasks"}}


class Claim(Settings):
    """What the paper says of models beside one another, in our words."""

    says: Text = Field(description="its content, in our words")
    place: Text = Field(description="where the paper says it: section, and first words or figure")
    kind: Literal["better", "marginal", "below", "above", "faster", "untested"] = Field(
        default="better",
        description="better: P below level; marginal: a gain of less than margin; below, above: a score beside bound; "
        "faster: fewer epochs until fine-tuning converges, P below level; untested: because says why",
    )
    comparison: Name | None = Field(default=None, description="a name under comparisons, whose statistics test it")
    metrics: list[MetricName] = Field(default=[], description="of which the claim speaks")
    level: Level | None = Field(default=None, description="P below which a comparison counts")
    margin: Positive | None = Field(default=None, description="points; a smaller gain is marginal")
    bound: Bound | None = Field(default=None, description="percent, that the score is said to be below or above")
    average: bool = Field(default=False, description="true: the mean over tasks, not each task")
    wins: list[Win] = Field(default=[], description="which model is better, or faster, or hardly better than which")
    model: Name | None = Field(default=None, description="below, above: the model whose score it is")
    tasks: Tasks = Field(default=[], description="below, above: of which tasks; left out: all of the comparison")
    because: Text | None = Field(default=None, description="untested: why it cannot be tested here")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse a claim that lacks what its kind needs, or has what its kind does not read."""
        given = self.model_fields_set - {"says", "place", "kind"}
        needed = KINDS[self.kind]
        empty = {name for name in needed if not getattr(self, name)}
        if lacking := sorted(empty | (needed - given)):
            raise ValueError(f"a claim of kind {self.kind} needs {', '.join(lacking)}")
        if surplus := sorted(given - needed - OPTIONAL.get(self.kind, set())):
            raise ValueError(f"a claim of kind {self.kind} has no {', '.join(surplus)}")
        return self


class ComparisonWithPaper(Settings):
    """Numbers that the paper's text states, and ours."""

    recipe: dict[str, Any] = Field(
        description="keys of pretraining.defaults with the paper's values: a model whose run has others says so"
    )
    seeds: Count = Field(description="the paper's fine-tuning runs of a cell")
    paper: list[Statement] = Field(description="the numbers, in percent or points, in the order of the rows")


class Tables(Settings):
    """What each table shows."""

    table_1: Table1 = Field(description="pre-training images by organ and source")
    table_2: Table2 = Field(description="tasks, data sets, classes and images")
    table_3: Table3 = Field(description="images of the organ-specific pre-training runs")
    comparison_with_paper: ComparisonWithPaper = Field(description="numbers that the paper's text states, and ours")
    claims: list[Claim] = Field(description="what the paper says of models beside one another, tested where it can be")
