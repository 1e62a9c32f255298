"""URFM: the reference workflow for ultrasound foundation models, as a library.

Every stage of the workflow is a module that can also be run by hand
(`python -m urfm.data.manifest --help`). Nothing in here imports snakemake or
reads the configuration file: a stage gets its settings as one JSON object.
"""
