"""What a configuration costs before anything is made: jobs, FLOP, GPU hours, storage (target `cost`)."""
