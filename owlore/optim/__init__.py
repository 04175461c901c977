"""AdamW, its low-rank projection, and both in shards. Imports only torch."""
