"""Masked image modelling: MAE's asymmetric encoder and decoder (facebookresearch/mae) with any per-patch target.

The encoder is timm's VisionTransformer and sees the visible patches only; a light decoder predicts, for every
patch, its target: pixels (MAE) or a teacher's token (URFM, Equations 1 and 2). Parameter names are MAE's, the
encoder's behind the prefix `encoder.`: `mae_tensors` and `load_mae` take it off and put it on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from urfm.config.pretraining import LossOn, PretrainSettings, TargetNorm
from urfm.core.errors import UrfmError
from urfm.models.classifier import build
from urfm.models.weights import Tensors, load_strictly

_ENCODER = "encoder."

# The parts of a VisionTransformer that the masked forward pass goes through.
_ENCODER_PARTS = {"cls_token", "reg_token", "pos_embed", "patch_embed", "norm_pre", "blocks", "norm"}


def build_encoder(architecture: str, model_args: dict[str, Any], input_size: int) -> VisionTransformer:
    """A timm VisionTransformer without head for square images of `input_size` pixels, freshly initialised."""
    encoder = build(architecture, encoder_arguments(model_args, input_size), None)
    others = {name.split(".")[0] for name, _ in encoder.named_parameters()} - _ENCODER_PARTS
    if not isinstance(encoder, VisionTransformer) or others or encoder.pos_embed is None:
        raise UrfmError(
            f"architecture: {architecture} with model_args {model_args} is not a plain vision transformer with an "
            f"absolute position embedding{f' (it also has {sorted(others)})' if others else ''}; masked "
            "pre-training needs one, such as vit_base_patch16_224"
        )
    return encoder


def encoder_arguments(model_args: dict[str, Any], input_size: int) -> dict[str, Any]:
    """Arguments for timm.create_model that rebuild the encoder: the input size decides the position embedding."""
    return {"img_size": input_size, **model_args}


def position_table(dim: int, grid: tuple[int, int], prefix: int = 0) -> NDArray[np.float32]:
    """Fixed 2-D sine-cosine position embedding, (prefix + h * w, dim), rows in raster order after `prefix` zeros.

    MAE's axis order (util/pos_embed.py): the first half of the channels encodes the column, the second the row;
    each half holds sines, then cosines, of the coordinate times 10000^(-2i / (dim / 2)).
    """
    if dim % 4:
        raise UrfmError(f"a 2-D sine-cosine position embedding needs a width divisible by 4, not {dim}")
    height, width = grid
    frequencies = 10000.0 ** (-np.arange(dim // 4) / (dim / 4))
    row, column = np.divmod(np.arange(height * width), width)
    angles = [np.outer(coordinate, frequencies) for coordinate in (column, row)]
    table = np.concatenate([part for angle in angles for part in (np.sin(angle), np.cos(angle))], axis=1)
    return np.concatenate([np.zeros((prefix, dim)), table]).astype(np.float32)


class MaskedAutoencoder(nn.Module):
    """Encoder, decoder and loss.

    Parameters
    ----------
    encoder
        timm VisionTransformer without head (see `build_encoder`); its weights are initialised anew.
    target_dim
        Width of the per-patch target.
    width, depth, heads
        Of the decoder.
    mask_ratio
        Share of patches that the encoder does not see, in [0, 1).
    target_norm
        `layernorm` standardises each target token over its channels, without affine parameters; `channel` each channel
        over images and positions, with the mean and deviation that `scale_targets` is given.
    loss_on
        Mean squared error over masked patches (MAE, URFM) or over all (Deblur-MIM).
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        target_dim: int,
        *,
        width: int,
        depth: int,
        heads: int,
        mask_ratio: float = 0.75,
        target_norm: TargetNorm = "none",
        loss_on: LossOn = "masked",
    ) -> None:
        super().__init__()
        self.target_mean: Tensor
        self.target_std: Tensor
        if width % heads:
            raise UrfmError(f"decoder: its width {width} is not a multiple of its {heads} heads")
        self.target_norm, self.loss_on = target_norm, loss_on
        self.encoder = encoder
        self.grid: tuple[int, int] = encoder.patch_embed.grid_size
        self.patches: int = self.grid[0] * self.grid[1]
        self.prefix: int = encoder.num_prefix_tokens
        self.keep = int(self.patches * (1 - mask_ratio))  # MAE: 49 of 196
        if self.keep < 1 or (self.keep == self.patches and loss_on == "masked"):
            raise UrfmError(f"mask_ratio: {mask_ratio} leaves {self.keep} of {self.patches} patches visible")

        self.decoder_embed = nn.Linear(encoder.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(
            torch.from_numpy(position_table(width, self.grid, self.prefix))[None], requires_grad=False
        )
        self.decoder_blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, target_dim)
        if target_norm == "channel":
            self.register_buffer("target_mean", torch.zeros(target_dim))
            self.register_buffer("target_std", torch.ones(target_dim))
        self._initialise()

    def _initialise(self) -> None:
        encoder = self.encoder
        assert encoder.pos_embed is not None
        prefix = 0 if encoder.no_embed_class else self.prefix
        encoder.pos_embed.data = torch.from_numpy(position_table(encoder.embed_dim, self.grid, prefix))[None]
        encoder.pos_embed.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        # The patch embedding is a convolution, but MAE initialises it as the linear layer that it is.
        weight = encoder.patch_embed.proj.weight.data
        nn.init.xavier_uniform_(weight.view(weight.shape[0], -1))
        for token in (encoder.cls_token, encoder.reg_token, self.mask_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)

    def forward(self, images: Tensor, target: Tensor, noise: Tensor) -> Tensor:
        """Loss, a scalar.

        Parameters
        ----------
        images
            (B, 3, S, S), normalised for the student.
        target
            (B, h * w, target_dim).
        noise
            (B, h * w), the patches with the smallest values stay visible.
        """
        prediction, mask = self.predict(images, noise)
        return self.loss(prediction, target, mask)

    def predict(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Prediction (B, h * w, target_dim) for every patch, and the mask (B, h * w): 1 where a patch was hidden."""
        encoder, keep = self.encoder, self.keep
        # Stable, because equal float32 values do occur and devices must agree.
        shuffle = torch.argsort(noise, dim=1, stable=True)
        restore = torch.argsort(shuffle, dim=1)
        mask = (restore >= keep).to(torch.float32)

        tokens = encoder._pos_embed(encoder.patch_embed(images))
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        visible = _take(patches, shuffle[:, :keep])
        x = encoder.norm(encoder.blocks(encoder.norm_pre(torch.cat([prefix, visible], dim=1))))

        x = self.decoder_embed(x)
        hidden = self.mask_token.to(x.dtype).expand(len(x), self.patches - keep, -1)
        patches = _take(torch.cat([x[:, self.prefix :], hidden], dim=1), restore)
        x = torch.cat([x[:, : self.prefix], patches], dim=1) + self.decoder_pos_embed
        x = self.decoder_pred(self.decoder_norm(self.decoder_blocks(x)))
        return x[:, self.prefix :], mask

    def scale_targets(self, mean: Tensor, std: Tensor) -> None:
        """Mean and deviation (target_dim,) of each channel, for `channel`; kept with the weights."""
        self.target_mean.copy_(mean)
        self.target_std.copy_(std)

    def standardise(self, target: Tensor) -> Tensor:
        """What is regressed: targets (B, h * w, target_dim) after `target_norm`, in float32."""
        target = target.float()
        if self.target_norm == "layernorm":
            return F.layer_norm(target, target.shape[-1:])
        if self.target_norm == "channel":
            return (target - self.target_mean) / self.target_std
        return target

    def loss(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over channels and over the hidden, or all, patches of the batch; in float32."""
        error = F.mse_loss(prediction.float(), self.standardise(target), reduction="none").mean(dim=-1)
        return error.mean() if self.loss_on == "all" else (error * mask).sum() / mask.sum()


def masked_autoencoder(settings: PretrainSettings, encoder: VisionTransformer, dim: int) -> MaskedAutoencoder:
    """The network of a run: the encoder, initialised anew, and a decoder to targets of `dim` channels."""
    return MaskedAutoencoder(
        encoder,
        dim,
        **settings.decoder.model_dump(),
        mask_ratio=settings.mask_ratio,
        target_norm=settings.target_norm,
        loss_on=settings.loss_on,
    )


def mae_tensors(model: MaskedAutoencoder) -> Tensors:
    """All tensors under the names of facebookresearch/mae, the content of `model` in its files with decoder.

    With `target_norm: channel`, target_mean and target_std too.
    """
    return {name.removeprefix(_ENCODER): tensor for name, tensor in model.state_dict().items()}


def load_mae(model: MaskedAutoencoder, tensors: Tensors, source: str | Path) -> None:
    """Load `mae_tensors`, or those of a file of facebookresearch/mae with decoder, strictly."""
    inside = model.encoder.state_dict().keys()
    load_strictly(model, {_ENCODER * (name in inside) + name: tensor for name, tensor in tensors.items()}, source)


def _take(tokens: Tensor, positions: Tensor) -> Tensor:
    return torch.gather(tokens, 1, positions[:, :, None].expand(-1, -1, tokens.shape[-1]))
