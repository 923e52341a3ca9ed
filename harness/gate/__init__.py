"""The verdict on an image: checks are judged, verdicts tallied, cached, listed to be skipped, merged and replayed."""
