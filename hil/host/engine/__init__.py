"""The container engine that benches use: the user's, or one of our own."""
