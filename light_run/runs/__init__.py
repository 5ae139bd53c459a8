"""What a run is and how it lives: model, store, executor, callbacks, and the one façade the API calls."""
