"""What is to be judged: tasks, the manifest and its schema, importers for other formats, image builds, shards."""
