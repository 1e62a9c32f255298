"""Pre-training and fine-tuning, and what both share: resumable state, processes, optimisation."""
