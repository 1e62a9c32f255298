# Does pre-training learn anything? Losses, probes of frozen features, and pictures of what is predicted.
localrules:
    reconstructions,


rule probe_run:
    input:
        weights=ancient("<results>/pretrain/{run}/snapshots.safetensors"),
        record="<results>/pretrain/{run}/snapshots.json",
        pixels=lambda wildcards: ancient(task_images("pixels.bin")(wildcards)),
        store=task_images("store.json"),
        split=f"<results>/splits/{{task}}/{grid.splits(config)[0]}.json",
    output:
        predictions="<results>/probes/runs/{run}/{task}.parquet",
        record="<results>/probes/runs/{run}/{task}.json",
    log:
        "<logs>/probes/runs/{run}/{task}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("probe", "threads")
    resources:
        gpu=need("probe", "gpus"),
        mem_mb=need("probe", "mem_mb"),
        runtime=minutes("probe"),
    params:
        *code("urfm.interpret.probe_encoder"),
        settings=reads(lambda wildcards: settings.probe(config, wildcards.run, wildcards.task)),
    shell:
        """
        python -m urfm.interpret.probe_encoder \
            --settings {params.settings:q} \
            --snapshots {input.record} \
            --images $(dirname {input.store}) \
            --split $(echo {input.split} | sed 's/json$/parquet/') \
            --output {output.predictions} \
            2>&1 | tee -i {log}
        """


rule probe_model:
    input:
        weights=ancient("<results>/encoders/{model}.safetensors"),
        record="<results>/encoders/{model}.json",
        pixels=lambda wildcards: ancient(task_images("pixels.bin")(wildcards)),
        store=task_images("store.json"),
        split=f"<results>/splits/{{task}}/{grid.splits(config)[0]}.json",
    output:
        predictions="<results>/probes/models/{model}/{task}.parquet",
        record="<results>/probes/models/{model}/{task}.json",
    log:
        "<logs>/probes/models/{model}/{task}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("probe", "threads")
    resources:
        gpu=need("probe", "gpus"),
        mem_mb=need("probe", "mem_mb"),
        runtime=minutes("probe"),
    params:
        *code("urfm.interpret.probe_encoder"),
        settings=reads(lambda wildcards: settings.probe(config, wildcards.model, wildcards.task)),
    shell:
        """
        python -m urfm.interpret.probe_encoder \
            --settings {params.settings:q} \
            --encoder {input.record} \
            --images $(dirname {input.store}) \
            --split $(echo {input.split} | sed 's/json$/parquet/') \
            --output {output.predictions} \
            2>&1 | tee -i {log}
        """


rule probe_curves:
    input:
        predictions=[ancient(file) for file in probe_files("parquet")],
        records=probe_files("json"),
    output:
        pdf="<results>/figures/probe_curves.pdf",
        png=report(
            "<results>/figures/probe_curves.png",
            caption="../report/probe_curves.rst",
            category="Pre-training",
            labels={"figure": "Probes", "content": "frozen features over the epochs"},
        ),
        numbers=report(
            "<results>/figures/probe_curves.csv",
            caption="../report/probe_curves.rst",
            category="Pre-training",
            labels={"figure": "Probes", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/probe_curves.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.figures.probe_curves"),
        settings=reads(lambda wildcards: settings.probe_curves(config)),
    shell:
        """
        python -m urfm.figures.probe_curves \
            --settings {params.settings:q} \
            --probes {input.records} \
            --output $(dirname {output.pdf})/probe_curves \
            2>&1 | tee -i {log}
        """


rule loss_curves:
    input:
        [f"<results>/pretrain/{run}/history.csv" for run in grid.curve_runs(config)],
    output:
        pdf="<results>/figures/loss_curves.pdf",
        png=report(
            "<results>/figures/loss_curves.png",
            caption="../report/loss_curves.rst",
            category="Pre-training",
            labels={"figure": "Loss", "content": "loss and learning rate over the epochs"},
        ),
        numbers=report(
            "<results>/figures/loss_curves.csv",
            caption="../report/loss_curves.rst",
            category="Pre-training",
            labels={"figure": "Loss", "content": "numbers drawn"},
        ),
    log:
        "<logs>/figures/loss_curves.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.figures.loss_curves"),
        settings=reads(lambda wildcards: settings.loss_curves(config)),
    shell:
        """
        python -m urfm.figures.loss_curves \
            --settings {params.settings:q} \
            --histories {input} \
            --output $(dirname {output.pdf})/loss_curves \
            2>&1 | tee -i {log}
        """


rule reconstruct:
    input:
        weights=ancient("<results>/pretrain/{run}/snapshots.safetensors"),
        record="<results>/pretrain/{run}/snapshots.json",
        pretrain_set=ancient("<results>/pretrain_sets/{run}.parquet"),
        pretrain_set_record="<results>/pretrain_sets/{run}.json",
        pixels=lambda wildcards: ancient(store_files(wildcards.run, "pixels.bin")),
        stores=lambda wildcards: store_files(wildcards.run, "store.json"),
    output:
        arrays="<results>/reconstructions/{run}.npz",
        record="<results>/reconstructions/{run}.json",
    log:
        "<logs>/reconstructions/{run}.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("probe", "mem_mb"),
        runtime=minutes("probe"),
    params:
        *code("urfm.interpret.reconstruct"),
        settings=reads(lambda wildcards: settings.reconstruct(config)),
    shell:
        """
        python -m urfm.interpret.reconstruct \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --snapshots {input.record} \
            --pretrain-set {input.pretrain_set} \
            --images $(dirname {input.stores}) \
            --output {output.arrays} \
            2>&1 | tee -i {log}
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
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.figures.reconstructions"),
        settings=reads(lambda wildcards: settings.reconstructions(config, wildcards.run)),
    shell:
        """
        python -m urfm.figures.reconstructions \
            --settings {params.settings:q} \
            --reconstructions {input.record} \
            --output $(dirname {output.pdf})/reconstructions_{wildcards.run} \
            2>&1 | tee -i {log}
        """


rule reconstructions:
    input:
        [f"<results>/figures/reconstructions_{run}.png" for run in grid.reconstructed_runs(config)],
