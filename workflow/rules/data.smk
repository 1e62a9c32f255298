# Raw archives -> manifests -> image stores and splits. First in line (priority), because all else waits for them.


rule simulate:
    output:
        local(availability.data_root(config) / "{folder}/SIMULATED.json"),
    log:
        "<logs>/simulate/{folder}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends(
            "urfm.simulation.simulate", lambda wildcards: settings.data.simulate(config, simulated_dataset(wildcards))
        ),
    shell:
        """
        python -m urfm.simulation.simulate \
            --settings {params.settings:q} \
            --root "$(dirname {output:q})" \
            2>&1 | tee -i {log:q}
        """


rule manifest:
    input:
        local(raw_files),
    output:
        table="<results>/manifests/{dataset}.parquet",
        rejected="<results>/manifests/{dataset}.rejected.csv",
        summary="<results>/manifests/{dataset}.json",
        files="<results>/manifests/{dataset}.files.parquet",
    log:
        "<logs>/manifest/{dataset}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    threads: need("manifest", "threads")
    resources:
        **needs("manifest"),
    params:
        **depends("urfm.data.manifest", lambda wildcards: settings.data.manifest(config, wildcards.dataset)),
    shell:
        """
        python -m urfm.data.manifest \
            --root "$URFM_DATA" \
            --settings {params.settings:q} \
            --threads {threads} \
            --manifest {output.table:q} \
            --rejected {output.rejected:q} \
            --summary {output.summary:q} \
            2>&1 | tee -i {log:q}
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
        **needs("images"),
    params:
        **depends("urfm.data.images.build", lambda wildcards: settings.data.images(config, wildcards.dataset)),
    shell:
        """
        python -m urfm.data.images.build \
            --root "$URFM_DATA" \
            --settings {params.settings:q} \
            --threads {threads} \
            --manifest {input.manifest:q} \
            --manifest-summary {input.summary:q} \
            --output "$(dirname {output.record:q})" \
            2>&1 | tee -i {log:q}
        """


# The same images, blurred at the size of their files: what Deblur-MIM and its like see.
use rule images as blurred_images with:
    output:
        pixels="<results>/images_blurred/{sigma}/{dataset}/pixels.bin",
        index="<results>/images_blurred/{sigma}/{dataset}/index.parquet",
        record="<results>/images_blurred/{sigma}/{dataset}/store.json",
    log:
        "<logs>/images_blurred/{sigma}/{dataset}.log",
    params:
        **depends(
            "urfm.data.images.build",
            lambda wildcards: settings.data.blurred_images(config, wildcards.dataset, float(wildcards.sigma)),
        ),


rule split:
    input:
        manifest=ancient(task_manifest("parquet")),
        summary=task_manifest("json"),
        ultrabench=local(ultrabench_files),
    output:
        table="<results>/splits/{task}/{split}.parquet",
        summary="<results>/splits/{task}/{split}.json",
    log:
        "<logs>/split/{task}-{split}.log",
    priority: 30
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends(
            "urfm.data.splits.stage", lambda wildcards: settings.data.split(config, wildcards.task, wildcards.split)
        ),
    shell:
        """
        python -m urfm.data.splits.stage \
            --root "$URFM_DATA" \
            --settings {params.settings:q} \
            --manifest {input.manifest:q} \
            --manifest-summary {input.summary:q} \
            --output {output.table:q} \
            --summary {output.summary:q} \
            2>&1 | tee -i {log:q}
        """
