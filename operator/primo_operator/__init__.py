"""The operator: watches studies, runs their trials as Jobs, keeps their status."""
