"""What runs on the driver: the command, the configuration, the plan, Ray's stages, and the dataset that is written."""

from pipelines.own_code import import_actors

import_actors()
