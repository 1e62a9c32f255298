# Masked image modelling. State that survives kills and requeues lies in <results>/state, unknown to Snakemake.


rule pretrain:
    input:
        pixels=lambda wildcards: ancient(store_files(wildcards.run, "pixels.bin")),
        stores=lambda wildcards: store_files(wildcards.run, "store.json"),
        tokens=lambda wildcards: ancient(target_files(wildcards.run, "tokens.bin")),
        targets=lambda wildcards: target_files(wildcards.run, "targets.json"),
        teacher=lambda wildcards: teacher_file(wildcards.run),
    output:
        weights="<results>/pretrain/{run}/encoder.safetensors",
        record="<results>/pretrain/{run}/encoder.json",
        history="<results>/pretrain/{run}/history.csv",
    log:
        "<logs>/pretrain/{run}.log",
    priority: 20
    conda:
        "../../envs/urfm.yaml"
    threads: need("pretrain", "threads")
    resources:
        gpu=need("pretrain", "gpus"),
        mem_mb=need("pretrain", "mem_mb"),
        runtime=minutes("pretrain"),
    params:
        *code("urfm.training.pretrain"),
        settings=reads(lambda wildcards: settings.pretraining(config, wildcards.run)),
    shell:
        """
        $([ {resources.gpu} -gt 1 ] && echo "$URFM_TORCHRUN {resources.gpu} -m" || echo "python -m") urfm.training.pretrain \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --images $(dirname {input.stores}) \
            $([ -z "{input.targets}" ] || echo --targets $(dirname {input.targets})) \
            --state "$URFM_STATE/pretrain/{wildcards.run}" \
            --output $(dirname {output.record}) \
            --workers $(({threads} / ({resources.gpu} > 0 ? {resources.gpu} : 1) - 1)) \
            2>&1 | tee -i {log}
        """
