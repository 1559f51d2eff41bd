"""Circuits of heads, MLPs and neurons over pairs of prompts: the search, the runs it needs, the graph it gives."""
