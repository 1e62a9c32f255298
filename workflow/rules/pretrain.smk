# Masked image modelling. State that survives kills and requeues lies in <results>/state, unknown to Snakemake.


rule pretrain_set:
    input:
        manifests=lambda wildcards: ancient(run_manifests("parquet")(wildcards)),
        summaries=run_manifests("json"),
        splits=lambda wildcards: ancient(left_out_splits("parquet")(wildcards)),
        split_summaries=left_out_splits("json"),
    output:
        table="<results>/pretrain_sets/{run}.parquet",
        record="<results>/pretrain_sets/{run}.json",
    log:
        "<logs>/pretrain_set/{run}.log",
    priority: 20
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.data.pretrain_set"),
        settings=reads(lambda wildcards: settings.pretrain_set(config, wildcards.run)),
    shell:
        """
        python -m urfm.data.pretrain_set \
            --settings {params.settings:q} \
            --manifests {input.summaries} \
            --splits {input.split_summaries} \
            --output {output.table} \
            2>&1 | tee -i {log}
        """


rule pretrain:
    input:
        pretrain_set=ancient("<results>/pretrain_sets/{run}.parquet"),
        pretrain_set_record="<results>/pretrain_sets/{run}.json",
        pixels=lambda wildcards: ancient(store_files(wildcards.run, "pixels.bin")),
        stores=lambda wildcards: store_files(wildcards.run, "store.json"),
        tokens=lambda wildcards: ancient(target_files(wildcards.run, "tokens.bin")),
        targets=lambda wildcards: target_files(wildcards.run, "targets.json"),
        teacher=lambda wildcards: teacher_file(wildcards.run),
    output:
        weights="<results>/pretrain/{run}/encoder.safetensors",
        decoder="<results>/pretrain/{run}/decoder.safetensors",
        record="<results>/pretrain/{run}/encoder.json",
        history="<results>/pretrain/{run}/history.csv",
        snapshots="<results>/pretrain/{run}/snapshots.safetensors",
        snapshots_record="<results>/pretrain/{run}/snapshots.json",
    log:
        "<logs>/pretrain/{run}.log",
    priority: 20
    conda:
        "../../envs/urfm.yaml"
    threads: need("pretrain", "threads")
    resources:
        **several(need("pretrain", "nodes")),
        gpu=need("pretrain", "gpus") * need("pretrain", "nodes"),
        # Apart from gpu, so that sites which ask for gres instead still start one process a GPU.
        processes=need("pretrain", "gpus"),
        nodes=need("pretrain", "nodes"),
        micro_batch=need("pretrain", "micro_batch"),
        workers=max(need("pretrain", "threads") // max(need("pretrain", "gpus"), 1) - 1, 0),
        mem_mb=need("pretrain", "mem_mb"),
        runtime=minutes("pretrain"),
    params:
        *code("urfm.training.pretrain.stage"),
        settings=reads(lambda wildcards: settings.pretraining(config, wildcards.run)),
    shell:
        """
        trap '' TERM USR1 # the program takes them to save its state; this shell outlives it
        sh "$URFM_LAUNCH" {resources.nodes} {resources.processes} {threads} urfm.training.pretrain.stage \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --pretrain-set {input.pretrain_set} \
            --images $(dirname {input.stores}) \
            $([ -z "{input.targets}" ] || echo --targets $(dirname {input.targets})) \
            $([ {resources.micro_batch} -eq 0 ] || echo --micro-batch {resources.micro_batch}) \
            --state "$URFM_STATE/pretrain/{wildcards.run}" \
            --output $(dirname {output.record}) \
            --workers {resources.workers} \
            2>&1 | tee -i {log}
        """
