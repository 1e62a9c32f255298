# One rule a figure; each draws from the statistics, figure 8 also from sizes and histories.


# What figure 2 and the summaries of its statistics draw.
COMPARED = config["figures"]["figure_2"]["comparison"]
TABLES = ["scores.parquet", "differences.parquet", "curves.parquet"]


rule figure_2:
    input:
        tables=ancient([f"<results>/statistics/{COMPARED}/{name}" for name in TABLES]),
        record=f"<results>/statistics/{COMPARED}/statistics.json",
    output:
        **drawing("figure_2", "Figure 2", "every model on every task"),
    log:
        "<logs>/figures/figure_2.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.figure_2", lambda wildcards: settings.figures.figure(config, COMPARED)),
    shell:
        """
        python -m urfm.figures.figure_2 \
            --settings {params.settings:q} \
            --statistics "$(dirname {input.record:q})" \
            --output "$(dirname {output.pdf:q})/$(basename {output.pdf:q} .pdf)" \
            2>&1 | tee -i {log:q}
        """


rule figure_3:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_3", *TABLES)(wildcards)),
        records=drawn_statistics("figure_3", "statistics.json"),
    output:
        **drawing("figure_3", "Figure 3", "external validation"),
    log:
        "<logs>/figures/figure_3.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.figure_3", lambda wildcards: settings.figures.figure_3(config)),
    shell:
        """
        records=({input.records:q}) figure=$(basename {output.pdf:q} .pdf)
        python -m "urfm.figures.$figure" \
            --settings {params.settings:q} \
            --statistics "${{records[@]%/*}}" \
            --output "$(dirname {output.pdf:q})/$figure" \
            2>&1 | tee -i {log:q}
        """


use rule figure_3 as figure_4 with:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_4", *TABLES)(wildcards)),
        records=drawn_statistics("figure_4", "statistics.json"),
    output:
        **drawing("figure_4", "Figure 4", "methods and targets"),
    log:
        "<logs>/figures/figure_4.log",
    params:
        **depends("urfm.figures.figure_4", lambda wildcards: settings.figures.comparisons(config, "figure_4")),


use rule figure_3 as figure_5 with:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_5", *TABLES)(wildcards)),
        records=drawn_statistics("figure_5", "statistics.json"),
    output:
        **drawing("figure_5", "Figure 5", "models of one organ"),
    log:
        "<logs>/figures/figure_5.log",
    params:
        **depends("urfm.figures.figure_5", lambda wildcards: settings.figures.figure_5(config)),


rule figure_8:
    input:
        tables=lambda wildcards: ancient(drawn_statistics("figure_8", *TABLES)(wildcards)),
        records=drawn_statistics("figure_8", "statistics.json"),
        selections=lambda wildcards: [f"<results>/pretrain_sets/{run}.json" for run in scaled_runs("data")],
        encoders=lambda wildcards: [f"<results>/encoders/{model}.json" for model in scaled_models("model_size")],
        cells=lambda wildcards: [f"{folder}/cell.json" for folder in efficiency_cells()],
        histories=lambda wildcards: ancient([f"{folder}/history.csv" for folder in efficiency_cells()]),
    output:
        **drawing("figure_8", "Figure 8", "scaling and efficiency"),
    log:
        "<logs>/figures/figure_8.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.figure_8", lambda wildcards: settings.figures.figure_8(config)),
    shell:
        """
        records=({input.records:q})
        python -m urfm.figures.figure_8 \
            --settings {params.settings:q} \
            --statistics "${{records[@]%/*}}" \
            --selections {input.selections:q} \
            --encoders {input.encoders:q} \
            --cells {input.cells:q} \
            --output "$(dirname {output.pdf:q})/figure_8" \
            2>&1 | tee -i {log:q}
        """


rule critical_difference:
    input:
        needed("critical_difference", f"<results>/statistics/{COMPARED}/statistics.json"),
    output:
        **drawing("critical_difference", "Critical difference", "ranks over tasks"),
    log:
        "<logs>/figures/critical_difference.log",
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.figures.critical_difference", lambda wildcards: settings.figures.summary(config, COMPARED)),
    shell:
        """
        figure=$(basename {output.pdf:q} .pdf)
        python -m "urfm.figures.$figure" \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.pdf:q})/$figure" \
            2>&1 | tee -i {log:q}
        """


use rule critical_difference as calibration with:
    input:
        f"<results>/statistics/{COMPARED}/statistics.json",
    output:
        **drawing("calibration", "Calibration", "reliability curves"),
    log:
        "<logs>/figures/calibration.log",
    params:
        **depends("urfm.figures.calibration", lambda wildcards: settings.figures.summary(config, COMPARED)),


use rule critical_difference as decision_curves with:
    input:
        needed("decision_curves", f"<results>/statistics/{COMPARED}/statistics.json"),
    output:
        **drawing("decision_curves", "Decision curves", "net benefit"),
    log:
        "<logs>/figures/decision_curves.log",
    params:
        **depends("urfm.figures.decision_curves", lambda wildcards: settings.figures.summary(config, COMPARED)),
