"""One folder a run: what came out of its container, kept until it is deleted or evicted."""
