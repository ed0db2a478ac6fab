"""Checkpoints of every generator: where they are, which files they have, what identifies them, and their LoRAs.

sources      what `model.source` may name
checkpoint   the folder of this machine that holds one, what identifies it, and its small files
files        the files of a folder in diffusers layout, by name
hub          those on the Hugging Face Hub
tensor_file  safetensors files, tensor by tensor
lora_files   LoRAs: where they are, and their copies on a node

Nothing here imports torch at its top: the driver looks checkpoints up and must not wait for it.
"""
