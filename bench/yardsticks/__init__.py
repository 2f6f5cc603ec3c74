"""What others would build or already run, measured beside us in the same run."""
