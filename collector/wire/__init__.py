"""The schema of topic `events`: the event, the block that carries events, and where each goes."""
