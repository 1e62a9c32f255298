"""What may be said of a network beside its name: the arguments of timm's networks that are sizes, rates and switches.

They come from the configuration and from the json of encoders, which others may have written. None names a file, a
folder, a device or a class, so that nothing is read or run because of them: `timm.create_model` also has arguments that
load weights (`checkpoint_path`, `pretrained_cfg`, …).
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, TypeAdapter, ValidationError

_Size = Annotated[StrictInt, Field(ge=0, le=20_000)]
_Sizes = Annotated[list[_Size], Field(max_length=20)]
_Rate = StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)]
_Rates = Annotated[list[_Rate], Field(max_length=20)]
_Word = Annotated[StrictStr, Field(pattern="^[a-z0-9_]{0,40}$")]

_NAMES: list[tuple[str, TypeAdapter[Any], str]] = [
    (
        "a whole number of at most 20,000, or a short list of them",
        TypeAdapter(_Size | _Sizes),
        "img_size patch_size embed_dim embed_dims depth depths dims num_heads head_dim window_size reg_tokens layers "
        "channels kernel_sizes output_stride cardinality base_width stem_width stem_chs stem_size stem_kernel_size "
        "width_factor num_features block_reduce_first down_kernel_size head_hidden_size",
    ),
    (
        "a number, or a short list of them",
        TypeAdapter(_Rate | _Rates),
        "mlp_ratio mlp_ratios init_values ls_init_value layer_scale_init_value norm_eps head_init_scale bottle_ratio "
        "drop_rate drop_path_rate drop_block_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate",
    ),
    (
        "true or false",
        TypeAdapter(StrictBool),
        "qkv_bias qk_norm proj_bias scale_attn_norm scale_mlp_norm scale_mlp swiglu_mlp class_token no_embed_class "
        "pre_norm final_norm fc_norm use_fc_norm pool_include_prefix fix_init dynamic_img_size dynamic_img_pad "
        "strict_img_size use_abs_pos_emb use_rel_pos_bias use_shared_rel_pos_bias always_partition preact basic "
        "avg_down replace_stem_pool zero_init_last conv_mlp conv_bias use_grn head_norm_first fix_stem",
    ),
    (
        "a word of timm's: lower-case letters, digits, _",
        TypeAdapter(_Word),
        "global_pool pos_embed weight_init stem_type pad_type act_layer norm_layer",
    ),
]
_KINDS = {name: (words, kind) for words, kind, names in _NAMES for name in names.split()}


def known_arguments(arguments: Any) -> dict[str, Any]:
    """`arguments` as they are, if each is known and of its kind, or null (timm's own); else a ValueError says which."""
    if not isinstance(arguments, dict):
        raise ValueError(f"model_args: expected names with values, found {type(arguments).__name__}")
    for name, value in arguments.items():
        if name not in _KINDS:
            close = difflib.get_close_matches(str(name)[:60], _KINDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(_KINDS)}"
            raise ValueError(f"{str(name)[:60]!r} is none of a network's sizes, rates and switches; {hint}")
        words, kind = _KINDS[name]
        try:
            if value is not None:
                kind.validate_python(value)
        except ValidationError as error:
            raise ValueError(f"{name}: {str(value)[:60]!r} is not {words}") from error
    return arguments


ModelArgs = Annotated[dict[str, Any], AfterValidator(known_arguments)]
