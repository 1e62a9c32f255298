"""From configuration and disk to jobs: what is there, which runs, what each rule reads. No torch."""
