"""The main job: a server and its devices as real processes, watched, reported."""
