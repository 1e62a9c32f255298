# Every encoder in one form, from a pre-training run here or from an upstream checkpoint.
FROM_RUN = {model: record["pretraining"] for model, record in config["models"].items() if "pretraining" in record}


def checkpoint_file(wildcards):
    """The upstream file if it is there; without a data root the plan goes on without it."""
    file = config["models"][wildcards.model]["checkpoint"].get("file")
    path = Path(config["checkpoint_root"]) / (file or "")
    return ancient(str(path)) if file and path.is_file() else []


rule encoder_from_run:
    input:
        weights=lambda wildcards: ancient(f"<results>/pretrain/{FROM_RUN[wildcards.model]}/encoder.safetensors"),
        record=lambda wildcards: f"<results>/pretrain/{FROM_RUN[wildcards.model]}/encoder.json",
    output:
        weights="<results>/encoders/{model}.safetensors",
        record="<results>/encoders/{model}.json",
    log:
        "<logs>/encoder/{model}.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.models.encoders"),
        settings=reads(lambda wildcards: settings.encoder(config, wildcards.model)),
    wildcard_constraints:
        model=configuration.one_of(FROM_RUN),
    message:
        "Taking the encoder of {wildcards.model} from its pre-training run"
    shell:
        "python -m urfm.models.encoders --settings {params.settings:q} --pretrained $(dirname {input.record})"
        " --output $(dirname {output.record})/{wildcards.model} 2>&1 | tee -i {log}"


rule encoder_from_checkpoint:
    input:
        checkpoint_file,
    output:
        weights="<results>/encoders/{model}.safetensors",
        record="<results>/encoders/{model}.json",
    log:
        "<logs>/encoder/{model}.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb") * 2,
        runtime=minutes("small"),
    params:
        *code("urfm.models.encoders"),
        settings=reads(lambda wildcards: settings.encoder(config, wildcards.model)),
    wildcard_constraints:
        model=configuration.one_of(set(config["models"]) - set(FROM_RUN)),
    message:
        "Converting the checkpoint of {wildcards.model}"
    shell:
        "python -m urfm.models.encoders --settings {params.settings:q} --checkpoint-root {config[checkpoint_root]:q}"
        " --output $(dirname {output.record})/{wildcards.model} 2>&1 | tee -i {log}"
