# Looking at the networks: attention and class activation maps (figure 6), embeddings (figure 7), the overview (figure 1).
PICTURED = config["figures"]["model"]
PICTURED_RUN = [f"<results>/pretrain/{FROM_RUN[PICTURED]}"] if PICTURED in FROM_RUN else []
PICTURED_FILES = (  # of a released model the decoder is in its file
    []
    if availability.missing_decoder(config, PICTURED)
    else [settings.models.attention(config, next(iter(config["tasks"])))["teacher"]]
    + ([] if PICTURED_RUN else [config["models"][PICTURED]["checkpoint"]])
)
EMBEDDED = grid.available_tasks(config, config["figures"]["figure_7"])
FIGURE_7 = {name: f"<results>/embeddings/{model}.json" for name, model in grid.embedded_models(config).items()} | {
    task: f"<results>/embeddings/finetuned/{task}.json" for task in grid.pictured_tasks(config, "figure_7")
}
OVERVIEW = config["figures"]["figure_1"]
OVERVIEW_RUN = [OVERVIEW["run"]] if availability.missing_images(config, OVERVIEW["run"]) is None else []
OVERVIEW_SAMPLE = [
    f"<results>/attention/{task}.json" for task in grid.pictured_tasks(config, "figure_6") if task == OVERVIEW["sample"]
]
OVERVIEW_SCORES = [OVERVIEW["comparison"]] if grid.cells(config, OVERVIEW["comparison"]) else []


rule attention:
    input:
        pixels=ancient(task_images("pixels.bin")),
        store=task_images("store.json"),
        manifest=task_manifest("json"),
        decoder=ancient([f"{run}/decoder.safetensors" for run in PICTURED_RUN]),
        run=[f"{run}/encoder.json" for run in PICTURED_RUN],
        encoder=f"<results>/encoders/{PICTURED}.json",
        weights=ancient(f"<results>/finetune/{PICTURED}/{{task}}/100/weights.safetensors"),
        cell=f"<results>/finetune/{PICTURED}/{{task}}/100/cell.json",
        upstream=local([path for record in PICTURED_FILES for path in upstream_file(record)]),
    output:
        maps="<results>/attention/{task}.npz",
        table="<results>/attention/{task}.parquet",
        record="<results>/attention/{task}.json",
    log:
        "<logs>/attention/{task}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("finetune", "threads")
    resources:
        **needs("finetune"),
    params:
        **depends("urfm.interpret.attention", lambda wildcards: settings.models.attention(config, wildcards.task)),
    shell:
        """
        run={input.run:q}
        python -m urfm.interpret.attention \
            --settings {params.settings:q} \
            --root "$URFM_DATA" \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --manifest {input.manifest:q} \
            --images "$(dirname {input.store:q})" \
            ${{run:+--run "$(dirname "$run")"}} \
            --encoder {input.encoder:q} \
            --cell {input.cell:q} \
            --output "$(dirname {output.record:q})/{wildcards.task}" \
            2>&1 | tee -i {log:q}
        """


rule embeddings:
    input:
        pixels=lambda wildcards: ancient(task_stores(EMBEDDED, "pixels.bin", seen_stores(wildcards))),
        stores=lambda wildcards: task_stores(EMBEDDED, "store.json", seen_stores(wildcards)),
        splits=[f"<results>/splits/{task}/{grid.shown_split(config)}.json" for task in EMBEDDED],
        weights=ancient("<results>/encoders/{model}.safetensors"),
        encoder="<results>/encoders/{model}.json",
    output:
        table="<results>/embeddings/{model}.parquet",
        record="<results>/embeddings/{model}.json",
    log:
        "<logs>/embeddings/{model}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("finetune", "threads")
    resources:
        **needs("finetune"),
    params:
        **depends("urfm.interpret.embeddings", lambda wildcards: settings.models.embeddings(config)),
    shell:
        """
        stores=({input.stores:q})
        python -m urfm.interpret.embeddings \
            --settings {params.settings:q} \
            --encoder {input.encoder:q} \
            --images "${{stores[@]%/*}}" \
            --splits {input.splits:q} \
            --output "$(dirname {output.record:q})/{wildcards.model}" \
            2>&1 | tee -i {log:q}
        """


rule finetuned_embeddings:
    input:
        pixels=ancient(task_images("pixels.bin")),
        store=task_images("store.json"),
        split=f"<results>/splits/{{task}}/{grid.splits(config)[0]}.json",  # the first seed's, whose weights are kept
        encoder=f"<results>/encoders/{PICTURED}.json",
        weights=ancient(f"<results>/finetune/{PICTURED}/{{task}}/100/weights.safetensors"),
        cell=f"<results>/finetune/{PICTURED}/{{task}}/100/cell.json",
    output:
        table="<results>/embeddings/finetuned/{task}.parquet",
        record="<results>/embeddings/finetuned/{task}.json",
    log:
        "<logs>/embeddings/finetuned/{task}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("finetune", "threads")
    resources:
        **needs("finetune"),
    params:
        **depends("urfm.interpret.embeddings", lambda wildcards: settings.models.embeddings(config)),
    shell:
        """
        python -m urfm.interpret.embeddings \
            --settings {params.settings:q} \
            --encoder {input.encoder:q} \
            --cell {input.cell:q} \
            --images "$(dirname {input.store:q})" \
            --splits {input.split:q} \
            --output "$(dirname {output.record:q})/{wildcards.task}" \
            2>&1 | tee -i {log:q}
        """


rule figure_6:
    input:
        maps=ancient(
            expand(
                "<results>/attention/{task}.{suffix}",
                task=grid.pictured_tasks(config, "figure_6"),
                suffix=["npz", "parquet"],
            )
        ),
        records=expand("<results>/attention/{task}.json", task=grid.pictured_tasks(config, "figure_6")),
    output:
        **drawing("figure_6", "Figure 6", "where networks look"),
    log:
        "<logs>/figures/figure_6.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.figure_6", lambda wildcards: settings.figures.figure_6(config)),
    shell:
        """
        python -m urfm.figures.figure_6 \
            --settings {params.settings:q} \
            --maps {input.records:q} \
            --output "$(dirname {output.pdf:q})/figure_6" \
            2>&1 | tee -i {log:q}
        """


rule figure_7:
    input:
        tables=ancient([record.replace(".json", ".parquet") for record in FIGURE_7.values()]),
        records=list(FIGURE_7.values()),
    output:
        **drawing("figure_7", "Figure 7", "embeddings"),
    log:
        "<logs>/figures/figure_7.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.figure_7", lambda wildcards: settings.figures.figure_7(config)),
    shell:
        """
        python -m urfm.figures.figure_7 \
            --settings {params.settings:q} \
            --embeddings {input.records:q} \
            --output "$(dirname {output.pdf:q})/figure_7" \
            2>&1 | tee -i {log:q}
        """


rule figure_1:
    input:
        selection=[f"<results>/pretrain_sets/{run}.json" for run in OVERVIEW_RUN],
        maps=ancient([record.replace(".json", ".npz") for record in OVERVIEW_SAMPLE]),
        sample=OVERVIEW_SAMPLE,
        scores=ancient([f"<results>/statistics/{name}/scores.parquet" for name in OVERVIEW_SCORES]),
        statistics=[f"<results>/statistics/{name}/statistics.json" for name in OVERVIEW_SCORES],
        pixels=ancient(task_stores(OVERVIEW["tasks"], "pixels.bin")),
        stores=task_stores(OVERVIEW["tasks"], "store.json"),
        splits=[
            f"<results>/splits/{task}/{grid.shown_split(config)}.json"
            for task in grid.available_tasks(config, OVERVIEW)
        ],
    output:
        **drawing("figure_1", "Figure 1", "overview of the study"),
    log:
        "<logs>/figures/figure_1.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.figure_1", lambda wildcards: settings.figures.figure_1(config)),
    shell:
        """
        selection={input.selection:q} sample={input.sample:q} statistics={input.statistics:q} stores=({input.stores:q})
        python -m urfm.figures.figure_1 \
            --settings {params.settings:q} \
            ${{selection:+--selection "$selection"}} \
            ${{sample:+--sample "$sample"}} \
            ${{statistics:+--statistics "$(dirname "$statistics")"}} \
            --images "${{stores[@]%/*}}" \
            --splits {input.splits:q} \
            --output "$(dirname {output.pdf:q})/figure_1" \
            2>&1 | tee -i {log:q}
        """
