"""Any image-to-video pipeline of diffusers as a generator: its settings, and the class that wraps `actors.hosting`."""
