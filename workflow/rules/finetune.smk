# One job a cell: a model on a task with a share of its training part, all seeds. Finished seeds stay in the state.
FROZEN = [model for model in config["models"] if availability.is_frozen(config, model)]


rule finetune:
    input:
        pixels=ancient(task_images("pixels.bin")),
        store=task_images("store.json"),
        split=[f"<results>/splits/{{task}}/{name}.json" for name in grid.splits(config)],
        external_pixels=ancient(external_files("{stores}/{dataset}/pixels.bin")),
        external_store=external_files("{stores}/{dataset}/store.json"),
        external_split=external_files("<results>/splits/{task}/paper.json"),
        weights=ancient("<results>/encoders/{model}.safetensors"),
        encoder="<results>/encoders/{model}.json",
    output:
        predictions="<results>/finetune/{model}/{task}/{share}/predictions.parquet",
        history="<results>/finetune/{model}/{task}/{share}/history.csv",
        record="<results>/finetune/{model}/{task}/{share}/cell.json",
    log:
        "<logs>/finetune/{model}/{task}/{share}.log",
    wildcard_constraints:
        model=configuration.one_of(set(config["models"]) - set(FROZEN)),
    conda:
        "../../envs/urfm.yaml"
    threads: need("finetune", "threads")
    resources:
        **needs("finetune"),
    params:
        **depends(
            "urfm.training.finetune.stage",
            lambda wildcards: settings.models.finetuning(
                config, wildcards.model, wildcards.task, int(wildcards.share)
            ),
        ),
    shell:
        """
        external={input.external_store:q}
        trap '' TERM USR1 # the program takes them to save its state; this shell outlives it
        trap : HUP        # and this, when the terminal is closed; under nohup it stays ignored
        python -m urfm.training.finetune.stage \
            --settings {params.settings:q} \
            --images "$(dirname {input.store:q})" \
            --split {input.split:q} \
            ${{external:+--external-images "$(dirname "$external")" --external-split {input.external_split:q}}} \
            --encoder {input.encoder:q} \
            --state "$URFM_STATE/finetune/{wildcards.model}/{wildcards.task}/{wildcards.share}" \
            ${{URFM_KEEP_STATE:+--keep-state}} \
            --output "$(dirname {output.record:q})" \
            --workers $(({threads} - 1)) \
            2>&1 | (
            trap '' HUP
            tee -i {log:q}
        )
        """


use rule finetune as finetune_with_weights with:
    output:
        predictions="<results>/finetune/{model}/{task}/{share}/predictions.parquet",
        history="<results>/finetune/{model}/{task}/{share}/history.csv",
        weights="<results>/finetune/{model}/{task}/{share}/weights.safetensors",
        record="<results>/finetune/{model}/{task}/{share}/cell.json",
    wildcard_constraints:
        model=configuration.one_of([config["figures"]["model"]]),
        task=configuration.one_of(grid.kept_tasks(config)),
        share="100",
    params:
        **depends(
            "urfm.training.finetune.stage",
            lambda wildcards: settings.models.finetuning(
                config, wildcards.model, wildcards.task, int(wildcards.share), keep_weights=True
            ),
        ),


ruleorder: finetune_with_weights > finetune


# Classifiers on features that are not trained write the same files.
rule frozen:
    input:
        pixels=ancient(task_images("pixels.bin")),
        store=task_images("store.json"),
        split=[f"<results>/splits/{{task}}/{name}.json" for name in grid.splits(config)],
        external_pixels=ancient(external_files("{stores}/{dataset}/pixels.bin")),
        external_store=external_files("{stores}/{dataset}/store.json"),
        external_split=external_files("<results>/splits/{task}/paper.json"),
        weights=ancient(encoder_file("safetensors")),
        encoder=encoder_file("json"),
    output:
        predictions="<results>/finetune/{model}/{task}/{share}/predictions.parquet",
        history="<results>/finetune/{model}/{task}/{share}/history.csv",
        record="<results>/finetune/{model}/{task}/{share}/cell.json",
    log:
        "<logs>/finetune/{model}/{task}/{share}.log",
    wildcard_constraints:
        model=configuration.one_of(model for model in FROZEN if "baseline" not in config["models"][model]),
    conda:
        "../../envs/urfm.yaml"
    threads: need("probe", "threads")
    resources:
        **needs("probe"),
    params:
        **depends(
            "urfm.training.frozen.stage",
            lambda wildcards: settings.models.frozen(config, wildcards.model, wildcards.task, int(wildcards.share)),
        ),
    shell:
        """
        external={input.external_store:q}
        encoder={input.encoder:q}
        python -m urfm.training.frozen.stage \
            --settings {params.settings:q} \
            --images "$(dirname {input.store:q})" \
            --split {input.split:q} \
            ${{external:+--external-images "$(dirname "$external")" --external-split {input.external_split:q}}} \
            ${{encoder:+--encoder "$encoder"}} \
            --output "$(dirname {output.record:q})" \
            2>&1 | tee -i {log:q}
        """


use rule frozen as baseline with:
    wildcard_constraints:
        model=configuration.one_of(model for model in FROZEN if "baseline" in config["models"][model]),
    threads: 1
    resources:
        **needs("small"),
