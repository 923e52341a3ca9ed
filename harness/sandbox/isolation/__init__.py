"""The cleanroom: a container without a network, the proof that it has none, and the one way in that is left."""
