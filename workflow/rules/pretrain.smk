# Masked image modelling. State that survives kills and requeues lies in <results>/state, unknown to Snakemake.


def store_files(run, name):
    return [f"<results>/images/{dataset}/{name}" for dataset in availability.available_datasets(config, run)]


def target_files(run, name):
    """Stored teacher targets of a run's data sets; none when the teacher looks on while training."""
    if not settings.uses_cache(config, run):
        return []
    teacher = availability.pretraining_settings(config, run)["teacher"]
    return [f"<results>/targets/{teacher}/{dataset}/{name}" for dataset in availability.available_datasets(config, run)]


rule pretrain:
    input:
        pixels=lambda wildcards: ancient(store_files(wildcards.run, "pixels.bin")),
        stores=lambda wildcards: store_files(wildcards.run, "store.json"),
        tokens=lambda wildcards: ancient(target_files(wildcards.run, "tokens.bin")),
        targets=lambda wildcards: target_files(wildcards.run, "targets.json"),
    output:
        weights="<results>/pretrain/{run}/encoder.safetensors",
        record="<results>/pretrain/{run}/encoder.json",
        history="<results>/pretrain/{run}/history.csv",
    log:
        "<logs>/pretrain/{run}.log",
    conda:
        "../../envs/urfm.yaml"
    threads: need("pretrain", "threads")
    resources:
        gpu=need("pretrain", "gpus"),
        mem_mb=need("pretrain", "mem_mb"),
        runtime=minutes("pretrain"),
    params:
        *code("urfm.training.pretrain"),
        settings=reads(lambda wildcards: settings.pretraining(config, wildcards.run)),
    message:
        "Pre-training {wildcards.run}"
    shell:
        "$([ {resources.gpu} -gt 1 ] && echo torchrun --standalone --nproc-per-node {resources.gpu} || echo python)"
        " -m urfm.training.pretrain --settings {params.settings:q}"
        " --checkpoint-root {config[checkpoint_root]:q} --images $(dirname {input.stores})"
        " $([ -z '{input.targets}' ] || echo --targets $(dirname {input.targets}))"
        " --state {STATE}/pretrain/{wildcards.run} --output $(dirname {output.record}) --workers $(({threads} - 1)) 2>&1 | tee -i {log}"
