"""The embedded questions, made of the study's archives."""
