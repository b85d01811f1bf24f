"""The centre's half: batches in, verified, landed once, receipted."""
