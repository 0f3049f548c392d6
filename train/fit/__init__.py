"""The training loop, the same for every objective.

    loop.py         batches in, steps taken, checkpoints, log and samples out
    step.py         gradients and updates of one step, by several threads on a CPU
    optimizers.py   the optimizer and its learning rate at each step
    settings.py     the settings that must not change when a run is resumed
    checkpoints.py  files to go on from
    distributed.py  several machines as one
    machine.py      the memory of this machine
    curve.py        the losses as a picture

An objective brings the model, its batches and their loss (`step.Objective`).
"""
