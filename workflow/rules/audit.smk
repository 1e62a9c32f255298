# The leakage audit: images that occur twice, from the manifests and splits of all that the figures and tables need.
rule audit:
    input:
        tables=ancient(
            expand(
                "<results>/{table}.parquet",
                table=[
                    *(f"manifests/{name}" for name in grid.datasets(config)),
                    *(f"splits/{name}/{grid.shown_split(config)}" for name in grid.tasks(config)),
                    *(f"pretrain_sets/{name}" for name in grid.audited_runs(config)),
                ],
            )
        ),
        manifests=[f"<results>/manifests/{name}.json" for name in grid.datasets(config)],
        splits=[f"<results>/splits/{name}/{grid.shown_split(config)}.json" for name in grid.tasks(config)],
        selections=[f"<results>/pretrain_sets/{name}.json" for name in grid.audited_runs(config)],
    output:
        tables=expand("<results>/audit/{table}.parquet", table=["pairs", "tasks", "runs", "datasets"]),
        pairs=report(
            "<results>/audit/pairs.csv",
            caption="../report/audit_pairs.rst",
            category="Leakage audit",
            labels={"content": "pairs of images, worst first"},
        ),
        tasks=report(
            "<results>/audit/tasks.csv",
            caption="../report/audit_tasks.rst",
            category="Leakage audit",
            labels={"content": "images of each task seen in pre-training"},
        ),
        runs=report(
            "<results>/audit/runs.csv",
            caption="../report/audit_runs.rst",
            category="Leakage audit",
            labels={"content": "test images seen in each pre-training run"},
        ),
        datasets=report(
            "<results>/audit/datasets.csv",
            caption="../report/audit_datasets.rst",
            category="Leakage audit",
            labels={"content": "duplicates in each data set"},
        ),
        record="<results>/audit/audit.json",
    log:
        "<logs>/audit/audit.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.data.leakage.audit", lambda wildcards: settings.data.audit(config)),
    shell:
        """
        python -m urfm.data.leakage.audit \
            --settings {params.settings:q} \
            --manifests {input.manifests:q} \
            --splits {input.splits:q} \
            --selections {input.selections:q} \
            --output "$(dirname {output.record:q})" \
            2>&1 | tee -i {log:q}
        """


rule duplicates_sheet:
    input:
        table=ancient("<results>/audit/pairs.csv"),
        record="<results>/audit/audit.json",
    output:
        pdf="<results>/audit/pairs.pdf",
        png=report(
            "<results>/audit/pairs.png",
            caption="../report/audit_sheet.rst",
            category="Leakage audit",
            labels={"content": "contact sheet of the worst pairs"},
        ),
    log:
        "<logs>/audit/sheet.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.duplicates_sheet", lambda wildcards: settings.figures.duplicates_sheet(config)),
    shell:
        """
        python -m urfm.figures.duplicates_sheet \
            --settings {params.settings:q} \
            --root "$URFM_DATA" \
            --audit "$(dirname {input.record:q})" \
            --output "$(dirname {output.png:q})/pairs" \
            2>&1 | tee -i {log:q}
        """


rule leakage_audit:
    input:
        rules.audit.output,
        rules.duplicates_sheet.output,
