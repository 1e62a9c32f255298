"""Looking into networks: attention, embeddings, reconstructions, probes of frozen features. Needs torch."""
