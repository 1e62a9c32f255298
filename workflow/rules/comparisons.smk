# Comparisons as targets, `snakemake my_benchmark`: statistics, a figure like figure 2 and a table of each.


for comparison in grid.targets(config):
    if taken(comparison):
        raise WorkflowError(
            f"comparisons.{comparison}: there is another target named {comparison}; give the comparison another name"
        )

    rule:
        name:
            comparison
        input:
            comparison_files(comparison),
        localrule: True


use rule figure_2 as comparison_figure with:
    input:
        tables=ancient([f"<results>/statistics/{{comparison}}/{name}" for name in TABLES]),
        record="<results>/statistics/{comparison}/statistics.json",
    output:
        **drawing("{comparison}", "{comparison}", "models on tasks", "Comparisons", "comparison"),
    log:
        "<logs>/figures/{comparison}.log",
    wildcard_constraints:
        comparison=configuration.one_of(grid.targets(config)),
    params:
        **depends("urfm.figures.figure_2", lambda wildcards: settings.figures.own_figure(config, wildcards.comparison)),


rule comparison_table:
    input:
        "<results>/statistics/{comparison}/statistics.json",
    output:
        csv=report(
            "<results>/tables/{comparison}.csv",
            caption="../report/comparison.rst",
            category="Comparisons",
            labels={"figure": "{comparison}", "content": "table"},
        ),
        text=expand("<results>/tables/{{comparison}}.{suffix}", suffix=["md", "tex"]),
    log:
        "<logs>/tables/{comparison}.log",
    wildcard_constraints:
        comparison=configuration.one_of(grid.targets(config)),
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    params:
        **depends("urfm.tables.comparison", lambda wildcards: settings.tables.comparison(config, wildcards.comparison)),
    shell:
        """
        python -m urfm.tables.comparison \
            --settings {params.settings:q} \
            --statistics {input:q} \
            --output "$(dirname {output.csv:q})/$(basename {output.csv:q} .csv)" \
            2>&1 | tee -i {log:q}
        """
