"""The labelling page: where people answer what a run asks."""
