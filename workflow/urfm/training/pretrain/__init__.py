"""Pre-training by masked image modelling: `samples` are seen, the `loop` trains, `export` writes; the `stage`."""
