"""From a request to deltas of text: prompt ids in, what the engine makes of them out, whatever the dialect."""
