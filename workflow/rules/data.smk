# Raw archives -> manifests -> image stores and splits. First in line (priority), because all else waits for them.


rule simulate:
    output:
        str(availability.data_root(config) / "{folder}/SIMULATED.json"),
    log:
        "<logs>/simulate/{folder}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.simulation.simulate"),
        settings=reads(lambda wildcards: settings.simulate(config, simulated_dataset(wildcards))),
    shell:
        """
        python -m urfm.simulation.simulate \
            --settings {params.settings:q} \
            --root $(dirname {output:q}) \
            2>&1 | tee -i {log}
        """


rule manifest:
    input:
        raw_files,
    output:
        table="<results>/manifests/{dataset}.parquet",
        rejected="<results>/manifests/{dataset}.rejected.csv",
        summary="<results>/manifests/{dataset}.json",
    log:
        "<logs>/manifest/{dataset}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    threads: need("manifest", "threads")
    resources:
        mem_mb=need("manifest", "mem_mb"),
        runtime=minutes("manifest"),
    params:
        *code("urfm.data.manifest"),
        settings=reads(lambda wildcards: settings.manifest(config, wildcards.dataset)),
    shell:
        """
        python -m urfm.data.manifest \
            --root "$URFM_DATA" \
            --settings {params.settings:q} \
            --threads {threads} \
            --manifest {output.table} \
            --rejected {output.rejected} \
            --summary {output.summary} \
            2>&1 | tee -i {log}
        """


rule images:
    input:
        manifest=ancient("<results>/manifests/{dataset}.parquet"),
        summary="<results>/manifests/{dataset}.json",
    output:
        pixels="<results>/images/{dataset}/pixels.bin",
        index="<results>/images/{dataset}/index.parquet",
        record="<results>/images/{dataset}/store.json",
    log:
        "<logs>/images/{dataset}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    threads: need("images", "threads")
    resources:
        mem_mb=need("images", "mem_mb"),
        runtime=minutes("images"),
    params:
        *code("urfm.data.images.build"),
        settings=reads(lambda wildcards: settings.images(config)),
    shell:
        """
        python -m urfm.data.images.build \
            --root "$URFM_DATA" \
            --settings {params.settings:q} \
            --threads {threads} \
            --manifest {input.manifest} \
            --manifest-summary {input.summary} \
            --output $(dirname {output.record}) \
            2>&1 | tee -i {log}
        """


rule split:
    input:
        manifest=lambda wildcards: ancient(f"<results>/manifests/{config['tasks'][wildcards.task]['dataset']}.parquet"),
        summary=lambda wildcards: f"<results>/manifests/{config['tasks'][wildcards.task]['dataset']}.json",
        ultrabench=ultrabench_files,
    output:
        table="<results>/splits/{task}/{split}.parquet",
        summary="<results>/splits/{task}/{split}.json",
    log:
        "<logs>/split/{task}-{split}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
        runtime=minutes("small"),
    params:
        *code("urfm.data.splits.stage"),
        settings=reads(lambda wildcards: settings.split(config, wildcards.task, wildcards.split)),
    shell:
        """
        python -m urfm.data.splits.stage \
            --root "$URFM_DATA" \
            --settings {params.settings:q} \
            --manifest {input.manifest} \
            --manifest-summary {input.summary} \
            --output {output.table} \
            --summary {output.summary} \
            2>&1 | tee -i {log}
        """
