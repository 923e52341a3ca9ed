"""What runs the checks: manifest, engine, container, skip list, pytest plugin."""
