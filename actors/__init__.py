"""What runs inside Ray workers: loading images, SVD, RIFE, encoding and uploading."""

__version__ = "0.1.0"
