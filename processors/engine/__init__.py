"""The fold of one partition's log, its unit of work, and what a worker does around it."""
