"""The presets of training and the commented example of cams.yaml."""
