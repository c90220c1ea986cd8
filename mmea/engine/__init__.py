"""What runs a training: hooks, metrics, checkpoints, the launch.

Nothing is imported here: reading a checkpoint needs no evaluation of mmdet.
"""
