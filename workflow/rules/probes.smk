# Does pre-training learn anything? Losses, probes of frozen features, and pictures of what is predicted.
rule probe_run:
    input:
        weights=ancient("<results>/pretrain/{run}/snapshots.safetensors"),
        record="<results>/pretrain/{run}/snapshots.json",
        pixels=ancient(task_images("pixels.bin")),
        store=task_images("store.json"),
        split=ancient(f"<results>/splits/{{task}}/{grid.splits(config)[0]}.parquet"),
        split_summary=f"<results>/splits/{{task}}/{grid.splits(config)[0]}.json",
    output:
        predictions="<results>/probes/runs/{run}/{task}.parquet",
        record="<results>/probes/runs/{run}/{task}.json",
    log:
        "<logs>/probes/runs/{run}/{task}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("probe", "threads")
    resources:
        **needs("probe"),
    params:
        **depends(
            "urfm.interpret.probe_encoder",
            lambda wildcards: settings.pretraining.probe(config, wildcards.run, wildcards.task),
        ),
    shell:
        """
        python -m urfm.interpret.probe_encoder \
            --settings {params.settings:q} \
            --snapshots {input.record:q} \
            --images "$(dirname {input.store:q})" \
            --split {input.split:q} \
            --output {output.predictions:q} \
            2>&1 | tee -i {log:q}
        """


rule probe_model:
    input:
        weights=ancient("<results>/encoders/{model}.safetensors"),
        record="<results>/encoders/{model}.json",
        pixels=ancient(task_images("pixels.bin")),
        store=task_images("store.json"),
        split=ancient(f"<results>/splits/{{task}}/{grid.splits(config)[0]}.parquet"),
        split_summary=f"<results>/splits/{{task}}/{grid.splits(config)[0]}.json",
    output:
        predictions="<results>/probes/models/{model}/{task}.parquet",
        record="<results>/probes/models/{model}/{task}.json",
    log:
        "<logs>/probes/models/{model}/{task}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("probe", "threads")
    resources:
        **needs("probe"),
    params:
        **depends(
            "urfm.interpret.probe_encoder",
            lambda wildcards: settings.pretraining.probe(config, wildcards.model, wildcards.task),
        ),
    shell:
        """
        python -m urfm.interpret.probe_encoder \
            --settings {params.settings:q} \
            --encoder {input.record:q} \
            --images "$(dirname {input.store:q})" \
            --split {input.split:q} \
            --output {output.predictions:q} \
            2>&1 | tee -i {log:q}
        """


rule probe_curves:
    input:
        predictions=[ancient(file) for file in probe_files("parquet")],
        records=probe_files("json"),
    output:
        **drawing("probe_curves", "Probes", "frozen features over the epochs", "Pre-training"),
    log:
        "<logs>/figures/probe_curves.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.probe_curves", lambda wildcards: settings.figures.probe_curves(config)),
    shell:
        """
        python -m urfm.figures.probe_curves \
            --settings {params.settings:q} \
            --probes {input.records:q} \
            --output "$(dirname {output.pdf:q})/probe_curves" \
            2>&1 | tee -i {log:q}
        """


rule loss_curves:
    input:
        [f"<results>/pretrain/{run}/history.csv" for run in grid.curve_runs(config)],
    output:
        **drawing("loss_curves", "Loss", "loss and learning rate over the epochs", "Pre-training"),
    log:
        "<logs>/figures/loss_curves.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.loss_curves", lambda wildcards: settings.figures.loss_curves(config)),
    shell:
        """
        python -m urfm.figures.loss_curves \
            --settings {params.settings:q} \
            --histories {input:q} \
            --output "$(dirname {output.pdf:q})/loss_curves" \
            2>&1 | tee -i {log:q}
        """


rule reconstruct:
    input:
        weights=ancient("<results>/pretrain/{run}/snapshots.safetensors"),
        record="<results>/pretrain/{run}/snapshots.json",
        pretrain_set=ancient("<results>/pretrain_sets/{run}.parquet"),
        pretrain_set_record="<results>/pretrain_sets/{run}.json",
        pixels=ancient(run_images("pixels.bin")),
        stores=run_images("store.json"),
        blurred_pixels=ancient(run_blurred_images("pixels.bin")),
        blurred=run_blurred_images("store.json"),
    output:
        arrays="<results>/reconstructions/{run}.npz",
        record="<results>/reconstructions/{run}.json",
    log:
        "<logs>/reconstructions/{run}.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=memory("probe"),
        runtime=minutes("probe"),
    params:
        **depends("urfm.interpret.reconstruct", lambda wildcards: settings.pretraining.reconstruct(config)),
    shell:
        """
        stores=({input.stores:q}) blurred=({input.blurred:q})
        python -m urfm.interpret.reconstruct \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --snapshots {input.record:q} \
            --pretrain-set {input.pretrain_set:q} \
            --images "${{stores[@]%/*}}" \
            --blurred-images "${{blurred[@]%/*}}" \
            --output {output.arrays:q} \
            2>&1 | tee -i {log:q}
        """


rule draw_reconstructions:
    input:
        arrays=ancient("<results>/reconstructions/{run}.npz"),
        record="<results>/reconstructions/{run}.json",
    output:
        pdf="<results>/figures/reconstructions_{run}.pdf",
        png=report(
            "<results>/figures/reconstructions_{run}.png",
            caption="../report/reconstructions.rst",
            category="Pre-training",
            labels={"figure": "Reconstructions", "content": "{run}"},
        ),
        numbers="<results>/figures/reconstructions_{run}.csv",
    log:
        "<logs>/figures/reconstructions_{run}.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends(
            "urfm.figures.reconstructions", lambda wildcards: settings.figures.reconstructions(config, wildcards.run)
        ),
    shell:
        """
        python -m urfm.figures.reconstructions \
            --settings {params.settings:q} \
            --reconstructions {input.record:q} \
            --output "$(dirname {output.pdf:q})/reconstructions_{wildcards.run}" \
            2>&1 | tee -i {log:q}
        """


rule reconstructions:
    input:
        [f"<results>/figures/reconstructions_{run}.png" for run in grid.reconstructed_runs(config)],
