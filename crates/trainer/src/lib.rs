//! The training loop of nearfar, its optimizers, schedules and checkpoints.
