"""Colours, P values, axes and files of every figure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from urfm.figures import style
from urfm.figures.output import save
from urfm.figures.style import COLORS, KNOWN, Unavailable, appearances, bar_scale, format_p, note_unavailable, wrap


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "P < .001"),
        (0.00099, "P < .001"),
        (0.001, "P = .001"),
        (0.0123, "P = .012"),
        (0.0496, "P = .050"),  # three digits: it does not read as .05 by rounding of .0454
        (0.0454, "P = .045"),
        (0.1, "P = .10"),
        (0.344, "P = .34"),
        (0.991, "P > .99"),
        (1.0, "P > .99"),
        (float("nan"), "P n/a"),
    ],
)
def test_format_p(p, text):
    assert format_p(p) == text


def test_a_model_of_the_paper_looks_the_same_in_every_figure():
    names = list(KNOWN)
    whole = appearances(names)
    for model in names:
        assert appearances([model])[model] == whole[model]
        assert appearances(["mine", model, "yours"])[model] == whole[model]


def test_looks_differ_within_a_figure():
    looks = appearances([*list(KNOWN)[:6], "mine", "yours"])
    assert len({look.color for look in looks.values()}) == 8
    assert len({(look.marker, look.line, look.hatch, look.color) for look in looks.values()}) == 8


def test_unknown_models_leave_the_papers_colours_alone_while_others_last():
    mine = appearances(["mine"])["mine"]
    assert mine.color not in {COLORS[number] for number in KNOWN.values()}
    assert appearances(["mine", "usfm"])["mine"] == mine
    crowd = appearances([f"model_{number}" for number in range(20)])
    assert len({look.color for look in crowd.values()}) == len(COLORS)


def luminance(color: str) -> float:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def simulate(color: str, matrix: list[list[float]]) -> np.ndarray:
    channels = np.array([int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return np.clip(np.array(matrix) @ linear, 0, 1)


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]


@pytest.mark.parametrize("matrix", [PROTANOPIA, DEUTERANOPIA])
def test_the_papers_six_models_stay_apart_without_red_or_green_vision(matrix):
    looks = appearances(["sl_imagenet", "mim_imagenet", "mim_us", "deblur_mim", "usfm", "urfm"])
    seen = [simulate(look.color, matrix) for look in looks.values()]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(gaps) > 0.1


def test_colours_stand_out_from_white_paper():
    """Contrast of at least 1.7 for fills and lines; the known models' at least 2."""
    for number, color in enumerate(COLORS):
        contrast = 1.05 / (luminance(color) + 0.05)
        assert contrast > (2 if number in KNOWN.values() else 1.5), color


@given(st.floats(0, 100), st.floats(0, 100))
def test_bar_scale_starts_below_every_value_and_never_below_zero(a, b):
    low, high = sorted((a, b))
    start, step = bar_scale(low, high)
    assert 0 <= start <= low
    assert start % step == pytest.approx(0)
    if start > 0:  # the bar is taller than the zigzag through its foot
        assert low - start >= 0.15 * (high - low)


def test_wrap_keeps_words_and_width():
    text = "Tasks not available: Thyroid nodule, Liver MVI (private data set)."
    lines = wrap(text, 40)
    assert " ".join(lines) == text
    assert all(style.text_width(line) <= 40 for line in lines)


def test_unavailable_is_grouped_by_kind_and_reason():
    entries = [
        Unavailable(kind="model", name="usfm", title="USFM", reason="no checkpoint"),
        Unavailable(kind="task", name="a", title="Liver MVI", reason="private."),
        Unavailable(kind="task", name="b", title="Kidney tumor", reason="private"),
    ]
    assert note_unavailable(entries) == [
        "Tasks not available: Liver MVI, Kidney tumor (private).",
        "Model not available: USFM (no checkpoint).",
    ]


def test_files_are_the_same_bytes_and_hold_real_text(tmp_path):
    for name in ("first", "second"):
        figure = style.new_figure(85, 40)
        axes = style.add_axes(figure, 10, 5, 60, 25)
        axes.bar([0, 1], [40, 60], hatch="//")
        style.mark_simulated(figure)
        save(tmp_path / name, figure, 100)
    for suffix in ("pdf", "png"):
        assert (tmp_path / f"first.{suffix}").read_bytes() == (tmp_path / f"second.{suffix}").read_bytes()
    pdf = (tmp_path / "first.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf  # embedded TrueType
    assert b"/Type3" not in pdf
    assert b"/MediaBox [ 0 0 240.94" in pdf  # 85 mm
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.pdf", "first.png", "second.pdf", "second.png"]


@pytest.mark.parametrize("title", ["100% $5 $x$", r"\input{file} $\frac", "a_b^c $_$"])
def test_a_dollar_in_a_title_is_drawn_as_it_is(tmp_path, title):
    figure = style.new_figure(85, 40)
    axes = style.add_axes(figure, 10, 5, 60, 25)
    axes.set_title(title)
    axes.plot([0, 1], label=title)
    axes.legend()
    style.add_text(figure, 2, 2, title)
    save(tmp_path / "figure", figure, 100)
    assert not any(text.get_parse_math() for text in figure.findobj(Text))
