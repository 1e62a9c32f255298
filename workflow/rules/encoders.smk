# Every encoder in one form, from a pre-training run here or from an upstream checkpoint.
FROM_RUN = {model: record["pretraining"] for model, record in config["models"].items() if "pretraining" in record}


rule stand_in:
    output:
        weights=local(Path(config["checkpoint_root"]) / "{checkpoint}"),
        mark=local(Path(config["checkpoint_root"]) / "{checkpoint}.stand_in.json"),
    log:
        "<logs>/stand_in/{checkpoint}.log",
    benchmark:
        "<results>/benchmarks/stand_in/{checkpoint}.tsv"
    wildcard_constraints:
        checkpoint=configuration.one_of(availability.stand_ins(config)),
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.models.stand_ins", lambda wildcards: settings.models.stand_in(config, wildcards.checkpoint)),
    shell:
        """
        python -m urfm.models.stand_ins \
            --settings {params.settings:q} \
            --root "$URFM_CHECKPOINTS" \
            2>&1 | tee -i {log:q}
        """


rule encoder_from_run:
    input:
        weights=ancient(lambda wildcards: f"<results>/pretrain/{FROM_RUN[wildcards.model]}/encoder.safetensors"),
        record=lambda wildcards: f"<results>/pretrain/{FROM_RUN[wildcards.model]}/encoder.json",
    output:
        weights="<results>/encoders/{model}.safetensors",
        record="<results>/encoders/{model}.json",
    log:
        "<logs>/encoder/{model}.log",
    benchmark:
        "<results>/benchmarks/encoder/{model}.tsv"
    wildcard_constraints:
        model=configuration.one_of(FROM_RUN),
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.models.encoders", lambda wildcards: settings.models.encoder(config, wildcards.model)),
    shell:
        """
        python -m urfm.models.encoders \
            --settings {params.settings:q} \
            --pretrained "$(dirname {input.record:q})" \
            --output "$(dirname {output.record:q})/{wildcards.model}" \
            2>&1 | tee -i {log:q}
        """


rule encoder_from_checkpoint:
    input:
        local(lambda wildcards: upstream_file(config["models"][wildcards.model]["checkpoint"])),
    output:
        weights="<results>/encoders/{model}.safetensors",
        record="<results>/encoders/{model}.json",
    log:
        "<logs>/encoder/{model}.log",
    benchmark:
        "<results>/benchmarks/encoder/{model}.tsv"
    wildcard_constraints:
        model=configuration.one_of(model for model, record in config["models"].items() if "checkpoint" in record),
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small", mem_mb=memory("small", 2)),
    params:
        **depends(
            "urfm.models.encoders",
            lambda wildcards: settings.models.encoder(config, wildcards.model),
            lambda wildcards: watched_upstream(config["models"][wildcards.model]["checkpoint"]),
        ),
    shell:
        """
        python -m urfm.models.encoders \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --output "$(dirname {output.record:q})/{wildcards.model}" \
            2>&1 | tee -i {log:q}
        """


rule export_encoder:
    input:
        weights=ancient("<results>/encoders/{model}.safetensors"),
        record="<results>/encoders/{model}.json",
        statistics=measured,
    output:
        weights="<results>/export/{model}/model.safetensors",
        record="<results>/export/{model}/model.json",
        config="<results>/export/{model}/config.json",
        card="<results>/export/{model}/README.md",
    log:
        "<logs>/export/{model}.log",
    benchmark:
        "<results>/benchmarks/export/{model}.tsv"
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.models.export", lambda wildcards: settings.models.export(config, wildcards.model)),
    shell:
        """
        python -m urfm.models.export \
            --settings {params.settings:q} \
            --encoder {input.record:q} \
            --statistics {input.statistics:q} \
            --output "$(dirname {output.card:q})" \
            2>&1 | tee -i {log:q}
        """
