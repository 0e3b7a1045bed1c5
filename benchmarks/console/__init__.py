"""The console's pages on a live book: how long each takes, over HTTP and in a browser."""
