"""What runs on the driver: the command, the configuration, the plan, Ray's stages, and the dataset that is written."""
