"""Encoders: networks that turn an input into a vector of features."""
