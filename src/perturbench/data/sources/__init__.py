"""Where raw data comes from: files, downloads, the simulator."""
