"""The cleanroom: a container without a network, the proof that it has none, and a relay as the only way in and out."""
