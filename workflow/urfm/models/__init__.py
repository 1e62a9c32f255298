"""Networks: encoders, masked image modelling around them, and the teachers whose tokens it predicts."""
