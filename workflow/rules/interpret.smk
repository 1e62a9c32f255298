# Looking at the networks: attention and class activation maps (figure 6), embeddings (figure 7), the overview (figure 1).
PICTURED = config["pictures"]["model"]
PICTURED_RUN = f"<results>/pretrain/{FROM_RUN[PICTURED]}"


rule attention:
    input:
        pixels=lambda wildcards: ancient(task_images("pixels.bin")(wildcards)),
        store=task_images("store.json"),
        manifest=lambda wildcards: f"<results>/manifests/{config['tasks'][wildcards.task]['dataset']}.json",
        decoder=ancient(f"{PICTURED_RUN}/decoder.safetensors"),
        run=f"{PICTURED_RUN}/encoder.json",
        encoder=f"<results>/encoders/{PICTURED}.json",
        weights=ancient(f"<results>/finetune/{PICTURED}/{{task}}/100/weights.safetensors"),
        cell=f"<results>/finetune/{PICTURED}/{{task}}/100/cell.json",
        teacher=upstream_file(settings.attention(config, next(iter(config["tasks"])))["teacher"]),
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
        gpu=need("finetune", "gpus"),
        mem_mb=need("finetune", "mem_mb"),
        runtime=minutes("finetune"),
    params:
        *code("urfm.evaluation.attention"),
        settings=reads(lambda wildcards: settings.attention(config, wildcards.task)),
    shell:
        """
        python -m urfm.evaluation.attention \
            --settings {params.settings:q} \
            --root "$URFM_DATA" \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --manifest {input.manifest} \
            --images $(dirname {input.store}) \
            --run $(dirname {input.run}) \
            --encoder {input.encoder} \
            --cell {input.cell} \
            --output $(dirname {output.record})/{wildcards.task} \
            2>&1 | tee -i {log}
        """
