# Comparisons as targets, `snakemake my_benchmark`: statistics, a figure like figure 2 and a table of each.


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
    conda:
        "../../envs/urfm.yaml"
    resources:
        **needs("small"),
    wildcard_constraints:
        comparison=configuration.one_of(grid.targets(config)),
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


def taken(name):
    """The rules that have the name of a comparison, or write files of this name."""
    files = [RESULTS / "figures" / f"{name}.png", RESULTS / "tables" / f"{name}.csv"]
    return [
        rule.name
        for rule in workflow.rules
        if rule.name == workflow.modifier.modify_rulename(name) or any(rule.is_producer(str(file)) for file in files)
    ]


for comparison in grid.targets(config):
    if others := {*taken(comparison)} - {"comparison_figure", "comparison_table"}:
        raise WorkflowError(
            f"comparisons.{comparison}: a target named {comparison} is there already; give the comparison another name"
        )

    rule:
        name:
            comparison
        input:
            comparison_files(comparison),
        localrule: True
