"""Image-to-video pipelines of diffusers, hosted as they are: whatever class a checkpoint's `model_index.json` names.

classes      what of a class neither its call nor its networks' configurations say: one line for each
source_text  the arguments of a class's call, from diffusers' source: the driver imports no torch
index        what a checkpoint is, from its small files
files        which of its files are loaded
sizes        the sizes and lengths of clips that it can make
shortcuts    which ways to be faster its networks have
host         the pipeline, resident on a device
embeddings   texts are encoded once
loading      networks, every parameter of which comes from the files
loras        LoRAs, by diffusers' own loaders
"""
