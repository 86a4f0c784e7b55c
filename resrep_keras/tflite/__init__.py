"""TFLite files: made, run, calibrated."""
