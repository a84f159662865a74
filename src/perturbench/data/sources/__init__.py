"""Sources of raw data: local files, downloads and the simulator."""
