# Getting data: what is free is fetched, what is there and what is missing is told, whether it is still the same, and what
# a run of everything costs. All
# run where Snakemake itself runs, since compute nodes are often offline, and make no output that Snakemake knows: a
# fetched folder shows by itself that it is complete, so nothing is ever fetched again or on behalf of another target.


rule download:
    log:
        "<logs>/download.log",
    retries: 0  # it tries again by itself, and goes on where it stopped
    localrule: True
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
    params:
        **depends("urfm.download.download", lambda wildcards: settings.data.download(config)),
    shell:
        """
        python -m urfm.download.download \
            --root "$URFM_DATA" \
            --checkpoint-root "$URFM_CHECKPOINTS" \
            --settings {params.settings:q} \
            | tee -i {log:q}
        """


rule doctor:
    log:
        "<logs>/doctor.log",
    localrule: True
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
    params:
        **depends("urfm.doctor.report", lambda wildcards: settings.data.doctor(config)),
    shell:
        """
        python -m urfm.doctor.report \
            --settings {params.settings:q} \
            --results "$(dirname "$URFM_STATE")" \
            | tee -i {log:q}
        """


rule check_data:
    log:
        "<logs>/check_data.log",
    retries: 0  # what has changed stays so
    localrule: True
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
    params:
        **depends("urfm.data.check", lambda wildcards: settings.data.check(config)),
    shell:
        """
        python -m urfm.data.check \
            --settings {params.settings:q} \
            --root "$URFM_DATA" \
            --manifests "$(dirname "$URFM_STATE")/manifests" \
            2>&1 | tee -i {log:q}
        """


rule cost:
    log:
        "<logs>/cost.log",
    localrule: True
    conda:
        "../../envs/urfm.yaml"
    resources:
        mem_mb=need("small", "mem_mb"),
    params:
        **depends("urfm.cost.report", lambda wildcards: settings.cost.cost(config)),
    shell:
        """
        python -m urfm.cost.report \
            --settings {params.settings:q} \
            --results "$(dirname "$URFM_STATE")" \
            2>&1 | tee -i {log:q}
        """
