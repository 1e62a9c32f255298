"""What guessing costs: moments of targets and colours against numpy, and the floor against the loss itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pretrain import CPU, here, images_of, settings, stores  # noqa: F401 (a fixture)
from torch import Tensor
from urfm import load
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.data.images.store import ImageStore
from urfm.interpret.autoencoder import load_autoencoder
from urfm.metrics import LEARNT
from urfm.models.mim import MaskedAutoencoder, build_encoder, masked_autoencoder
from urfm.models.normalisation import normalise
from urfm.models.teachers import load_teacher
from urfm.training.pretrain import survey as module
from urfm.training.pretrain.loop import Objective, measure_targets
from urfm.training.pretrain.samples import Sample, Samples
from urfm.training.pretrain.survey import colours, sampled, survey


@pytest.fixture
def samples(stores: list[Path]) -> Samples:  # noqa: F811
    return Samples(settings(), images_of(stores), [ImageStore(path) for path in stores], [])


def test_a_sample_is_of_distinct_images_and_always_the_same(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 10)
    monkeypatch.setattr(module, "BATCH", 4)
    batches = list(sampled(samples, 0))
    assert [len(batch["student"]) for batch in batches] == [4, 4, 2]
    drawn = torch.cat([batch["student"] for batch in batches])
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 10
    torch.testing.assert_close(drawn, torch.cat([batch["student"] for batch in sampled(samples, 0)]))
    assert not torch.equal(drawn, torch.cat([batch["student"] for batch in sampled(samples, 1)]))


def test_a_sample_is_balanced_as_training_is(stores: list[Path]) -> None:  # noqa: F811
    """Store b has a third of the images, and then half of the sample."""
    balanced = Samples(
        settings(sampling="organ_balanced"), images_of(stores), [ImageStore(path) for path in stores], []
    )
    drawn = torch.cat([batch["student"] for batch in sampled(balanced, 0)])
    own = {tuple(crop.flatten().tolist()) for crop in drawn}
    fresh = [balanced[turn, index] for index in range(14, 21) for turn in range(4)]
    assert sum(tuple(item["student"].flatten().tolist()) in own for item in fresh) == pytest.approx(
        len(drawn) / 2, abs=1
    )


def test_colours_are_those_of_all_pixels(samples: Samples) -> None:
    pixels = torch.cat([batch["student"] for batch in sampled(samples, 0)]).double().numpy() / 255
    assert len(pixels) == 21
    mean, std = colours(samples, 0)
    assert len(set(mean)) == len(set(std)) == 1
    np.testing.assert_allclose((mean[0], std[0]), (pixels.mean(), pixels.std()), atol=5e-4)


def test_moments_are_numpys(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from zero too, in batches of unequal size."""
    monkeypatch.setattr(module, "BATCH", 4)

    def targets(batch: Sample) -> Tensor:
        return 1e6 + batch["student"][:, :, ::8, ::8].flatten(2).mT.double()

    found = survey(samples, 0, targets)
    tokens = torch.cat([targets(batch) for batch in sampled(samples, 0)]).numpy()  # (21, 16, 3)
    np.testing.assert_allclose(found.mean, tokens.mean(0))
    np.testing.assert_allclose(found.variance, tokens.var(0, ddof=1))
    np.testing.assert_allclose(found.floor(), tokens.var(0, ddof=1).mean())
    np.testing.assert_allclose(found.channel_mean, tokens.mean((0, 1)))
    # Within positions unbiased, so a little more than numpy's.
    between, within = tokens.mean(0).var(0), tokens.var(0, ddof=1).mean(0)
    np.testing.assert_allclose(found.channel_std, np.sqrt(between + within))


def test_concentration_is_the_share_of_the_strongest_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    deviation = torch.ones(200, dtype=torch.float64)
    deviation[[3, 150]] = 10.0
    found = module.TargetSurvey(torch.zeros(4, 200, dtype=torch.float64), deviation.square().expand(4, 200))
    assert found.concentration() == pytest.approx(200 / (200 + 198))
    alike = module.TargetSurvey(torch.randn(1, 200, generator=generator).expand(4, 200), torch.ones(4, 200))
    assert alike.concentration() == pytest.approx(0.01)
    assert module.TargetSurvey(torch.zeros(4, 3), torch.ones(4, 3)).concentration() == pytest.approx(1 / 3)


@pytest.mark.parametrize("target_norm", ["none", "layernorm", "channel"])
def test_the_floor_is_the_loss_of_guessing_each_positions_mean(samples: Samples, target_norm: Any) -> None:
    """Of the network's own loss, with the mean of the sample in place of its predictions: smaller by (n - 1) / n."""
    chosen = settings(target_norm=target_norm, loss_on="all")
    encoder = build_encoder(chosen.architecture, chosen.model_args, chosen.input_size)
    teacher = load_teacher(chosen.teacher, Path(), chosen.input_size)
    model = masked_autoencoder(chosen, encoder, teacher.dim)
    floor, _ = measure_targets(chosen, model, Objective(chosen, model, teacher, CPU), samples)
    tokens = torch.cat([teacher.tokens(batch["student"]) for batch in sampled(samples, 0)])
    standardised = model.standardise(tokens)
    guess = standardised.mean(0).expand_as(standardised)
    loss = model.loss(guess, tokens, torch.ones(tokens.shape[:2])).item()
    assert loss == pytest.approx(floor * 20 / 21, rel=1e-4)
    if target_norm == "channel":
        np.testing.assert_allclose(standardised.mean((0, 1)), 0, atol=1e-5)
        np.testing.assert_allclose(standardised.std((0, 1)), 1, atol=0.03)


def test_channels_keep_their_scale_in_the_decoder(stores: list[Path], tmp_path: Path) -> None:  # noqa: F811
    """What a run with `target_norm: channel` regressed can be asked of it later."""
    history = here(settings(target_norm="channel", epochs=30), stores, tmp_path)
    model = load_autoencoder(tmp_path / "out")
    assert isinstance(model, MaskedAutoencoder)
    assert (model.target_std != 1).all()
    assert history["r2"].iloc[-5:].mean() > history["r2"].iloc[0] + 0.1


@pytest.mark.parametrize(("base_lr", "says"), [(1e-12, True), (0.1, False)])
def test_a_run_that_learns_nothing_says_so(
    stores: list[Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    base_lr: float,
    says: bool,
) -> None:
    history = here(settings(epochs=60, loss_on="all", base_lr=base_lr), stores, tmp_path)
    assert (history["r2"].iloc[-1] < LEARNT) == says
    line = "warning: test has learnt nothing beyond the mean target of each position (R² "
    assert (line in capsys.readouterr().err) == says


def test_black_images_are_normalised_too() -> None:
    black, noise = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert normalise(black, None, None).abs().max() == 0
    own = normalise(noise, None, None)
    np.testing.assert_allclose(own.mean((1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(own.std((1, 2, 3)), 1, atol=1e-6)
    expected = (noise.double() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
    torch.testing.assert_close(normalise(noise, (0.1, 0.2, 0.3), (0.5,) * 3).double(), expected, rtol=1e-5, atol=1e-6)


def test_normalisation_is_found_once_and_kept_with_the_encoder(stores: list[Path], tmp_path: Path) -> None:  # noqa: F811
    lite = {"name": "lite", "kind": "efficientnet_lite0", "block": 5}
    for name, more, mean in [
        ("data", {}, colours(Samples(settings(), images_of(stores), [ImageStore(path) for path in stores], []), 0)[0]),
        ("teacher", {"teacher": lite}, [127 / 255] * 3),
        ("image", {}, None),
        ([0.3, 0.2], {}, [0.3] * 3),
    ]:
        folder = tmp_path / str(name)
        here(settings(normalisation=name, epochs=1, **more), stores, folder)
        record = read_json(folder / "out" / "encoder.json")
        assert record["mean"] == pytest.approx(mean) if mean else record["mean"] is None
        assert not isinstance(name, str) or record["provenance"]["normalisation"] == name
    # What each image's own is does not change with its brightness and contrast.
    encoder = load(tmp_path / "image" / "out")
    picture = np.random.default_rng(0).integers(0, 100, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(encoder.embed(picture), encoder.embed(picture * 2 + 20), atol=1e-4)
    with pytest.raises(UrfmError, match="pixels are not normalised by a teacher"):
        here(settings(normalisation="teacher"), stores, tmp_path / "none")
