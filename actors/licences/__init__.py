"""Under which licence a model's weights come: what is known, and where from. Nothing here judges, and nothing fails.

licence   what is known of one
known     models whose licences were read
cards     what a model's own README.md says, in a folder or on the Hugging Face Hub
finding   the order in which these are asked
"""
