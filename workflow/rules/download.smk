# Getting data: what is free is fetched, and what is there and what is missing is told. Both run where Snakemake itself
# runs, since compute nodes are often offline, and both make no output that Snakemake knows: a fetched folder shows by
# itself that it is complete, so nothing is ever fetched again or on behalf of another target.


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
