"""The artifacts of runs: one folder for each run, kept until it is deleted or evicted."""
