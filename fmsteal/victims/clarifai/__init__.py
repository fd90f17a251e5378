"""Clarifai's embedding API, over gRPC."""
