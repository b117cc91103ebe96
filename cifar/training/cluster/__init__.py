"""Grids of runs on more than one machine: on Ray, or as jobs for Kubernetes and Slurm.

The folder of runs is the queue: a run is locked while it is trained, goes on from its last epoch, and is kept once it
is finished. What is here only decides where `cifar train` is called.
"""
