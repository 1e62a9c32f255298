# Named targets, one a stage: all that the chosen figures and tables need of it; and the report, which shows all.
localrules:
    manifests,
    splits,
    resplits,
    pretrain_sets,
    targets,
    pretraining,
    encoders,
    finetuning,
    statistics,
    export,


rule manifests:
    input:
        [f"<results>/manifests/{name}.json" for name in grid.datasets(config)],


rule splits:
    input:
        [f"<results>/splits/{name}/{split}.json" for name in grid.tasks(config) for split in grid.splits(config)],


rule resplits:
    input:
        [f"<results>/splits/{name}/seed-{seed}.json" for name in grid.tasks(config) for seed in config["seeds"]],


rule pretrain_sets:
    input:
        [f"<results>/pretrain_sets/{name}.json" for name in grid.pretrain_sets(config)],


rule targets:
    input:
        [file for run in grid.runs(config) for file in target_files(run, "targets.json")],


rule pretraining:
    input:
        [f"<results>/pretrain/{name}/encoder.json" for name in grid.trainable_runs(config)],


rule encoders:
    input:
        [f"<results>/encoders/{name}.json" for name in grid.encoders(config)],


rule finetuning:
    input:
        [f"<results>/finetune/{cell.model}/{cell.task}/{cell.share}/cell.json" for cell in grid.all_cells(config)],


rule statistics:
    input:
        [f"<results>/statistics/{name}/statistics.json" for name in grid.comparisons(config)],


rule export:
    input:
        [f"<results>/export/{name}/README.md" for name in grid.exported(config)],


# What `all` builds and the report shows: of the figures, those that have what they need; the others are named.
FIGURES = {
    "figure_1": rules.figure_1,
    "figure_2": rules.figure_2,
    "figure_3": rules.figure_3,
    "figure_4": rules.figure_4,
    "figure_5": rules.figure_5,
    "figure_6": rules.figure_6,
    "figure_7": rules.figure_7,
    "figure_8": rules.figure_8,
    "critical_difference": rules.critical_difference,
    "calibration": rules.calibration,
    "decision_curves": rules.decision_curves,
    "operating_points": rules.operating_points,
    "probe_curves": rules.probe_curves,
    "loss_curves": rules.loss_curves,
    "audit": rules.audit,
    "duplicates_sheet": rules.duplicates_sheet,
}
PRODUCTS = [
    *(rule.output for name, rule in FIGURES.items() if products.missing(config, name) is None),
    rules.table_1.output,
    rules.table_2.output,
    rules.table_3.output,
    rules.table_4.output,
    rules.table_5.output,
    rules.comparison_with_paper.output,
    rules.claims.output,
    rules.reconstructions.input,
    *(comparison_files(name) for name in grid.own_comparisons(config) if grid.cells(config, name)),
]
PAGES = HOME / "workflow" / "report"


rule report:
    input:
        *PRODUCTS,
        pages=sorted(str(path) for path in PAGES.iterdir()),
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.report.page", lambda wildcards: settings.tables.report(config)),
    shell:
        """
        python -m urfm.report.page \
            --settings {params.settings:q} \
            --results "$(dirname {output:q})" \
            --pages "$(dirname {input.pages[0]:q})" \
            --output {output:q} \
            2>&1 | tee -i {log:q}
        """
