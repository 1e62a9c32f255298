# Masked image modelling. State that survives kills and requeues lies in <results>/state, unknown to Snakemake.


rule pretrain_set:
    input:
        manifests=ancient(run_manifests("parquet")),
        summaries=run_manifests("json"),
        splits=ancient(left_out_splits("parquet")),
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
        **needs("small"),
    params:
        **depends("urfm.data.pretrain_set", lambda wildcards: settings.pretraining.pretrain_set(config, wildcards.run)),
    shell:
        """
        python -m urfm.data.pretrain_set \
            --settings {params.settings:q} \
            --manifests {input.summaries:q} \
            --splits {input.split_summaries:q} \
            --output {output.table:q} \
            2>&1 | tee -i {log:q}
        """


rule pretrain:
    input:
        pretrain_set=ancient("<results>/pretrain_sets/{run}.parquet"),
        pretrain_set_record="<results>/pretrain_sets/{run}.json",
        pixels=ancient(run_images("pixels.bin")),
        stores=run_images("store.json"),
        blurred_pixels=ancient(run_blurred_images("pixels.bin")),
        blurred=run_blurred_images("store.json"),
        tokens=ancient(lambda wildcards: target_files(wildcards.run, "tokens.bin")),
        targets=lambda wildcards: target_files(wildcards.run, "targets.json"),
        teacher=local(lambda wildcards: teacher_file(wildcards.run)),
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
        # Its attempts follow the time limit; more memory than a whole node has would be refused.
        **needs("pretrain", mem_mb=need("pretrain", "mem_mb")),
        **several(need("pretrain", "nodes")),
        # One a GPU, however the GPUs are asked for.
        processes=max(need("pretrain", "gpus"), 1),
        nodes=need("pretrain", "nodes"),
        micro_batch=need("pretrain", "micro_batch"),
    params:
        **depends(
            "urfm.training.pretrain.stage", lambda wildcards: settings.pretraining.pretraining(config, wildcards.run)
        ),
    shell:
        """
        stores=({input.stores:q}) blurred=({input.blurred:q}) targets=({input.targets:q})
        trap '' TERM USR1 # the program takes them to save its state; this shell outlives it
        trap : HUP        # and this, when the terminal is closed; under nohup it stays ignored
        sh "$URFM_LAUNCH" {resources.nodes} {resources.processes} {threads} urfm.training.pretrain.stage \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --pretrain-set {input.pretrain_set:q} \
            --images "${{stores[@]%/*}}" \
            --blurred-images "${{blurred[@]%/*}}" \
            --targets "${{targets[@]%/*}}" \
            $([ {resources.micro_batch} -eq 0 ] || echo --micro-batch {resources.micro_batch}) \
            --state "$URFM_STATE/pretrain/{wildcards.run}" \
            ${{URFM_KEEP_STATE:+--keep-state}} \
            --output "$(dirname {output.record:q})" \
            --workers $((({threads} - {resources.processes}) / {resources.processes})) \
            2>&1 | (
            trap '' HUP
            tee -i {log:q}
        )
        """
