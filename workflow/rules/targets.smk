# Teacher targets, stored: K views an image with their crop boxes, for runs with `targets: cached`.


rule cache_targets:
    input:
        pixels=ancient("<results>/images/{dataset}/pixels.bin"),
        store="<results>/images/{dataset}/store.json",
        teacher=local(lambda wildcards: upstream_file(config["teachers"][wildcards.teacher])),
    output:
        tokens="<results>/targets/{teacher}/{dataset}/tokens.bin",
        views="<results>/targets/{teacher}/{dataset}/views.parquet",
        record="<results>/targets/{teacher}/{dataset}/targets.json",
    log:
        "<logs>/targets/{teacher}-{dataset}.log",
    benchmark:
        "<results>/benchmarks/targets/{teacher}-{dataset}.tsv"
    priority: 20
    conda:
        "../../envs/urfm.yaml"
    threads: need("targets", "threads")
    resources:
        **needs("targets"),
    params:
        **depends(
            "urfm.targets.build",
            lambda wildcards: settings.pretraining.targets(config, wildcards.teacher),
            lambda wildcards: watched_upstream(config["teachers"][wildcards.teacher]),
        ),
    shell:
        """
        python -m urfm.targets.build \
            --settings {params.settings:q} \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --images "$(dirname {input.store:q})" \
            --output "$(dirname {output.record:q})" \
            --workers $(({threads} - 1)) \
            2>&1 | tee -i {log:q}
        """
