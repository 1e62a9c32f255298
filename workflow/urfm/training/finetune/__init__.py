"""Fine-tuning on a task: `images` are seen, the `loop` trains a seed; the `stage` with all seeds of a cell."""
