"""A GPT from nothing, one module for each idea, exported from the notebooks of the course."""
