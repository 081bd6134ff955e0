"""From a request to text deltas: prompt ids in, deltas out, for every dialect."""
