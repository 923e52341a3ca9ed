"""Task sets as people have them, a file a format: each says which sources are its own, and reads one.

A further one is a module with an `IMPORTER`, named in the entry point group `taskgate.importers`.
"""
