"""What a person or a CI job reads: journal, verdicts, HTML, summary."""
