"""From Katib's Experiments to PriMOStudies."""
