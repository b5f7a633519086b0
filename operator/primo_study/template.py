"""What a user writes of the Job of a run: a batch/v1 JobSpec."""

from typing import Any

from pydantic import Field

from primo_study.schema import Model, list_map


class TemplateMetadata(Model):
    """Labels and annotations for each Job."""

    labels: dict[str, str] | None = Field(None, description="Added to each Job and its pod.")
    annotations: dict[str, str] | None = Field(None, description="Added to each Job and its pod.")


_CONTAINER: dict[str, Any] = {
    "type": "object",
    "required": ["name", "image"],
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "name": {"type": "string", "maxLength": 63},
        "image": {"type": "string"},
    },
}

# Typed only as far as no Kubernetes version will ever change it: the full schema of a Job would
# freeze one version's fields and prune the newer ones without a word.
JOB_SPEC_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A batch/v1 JobSpec. Retries, completions and deletion are the study's own.",
    "required": ["template"],
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "activeDeadlineSeconds": {"type": "integer", "format": "int64"},
        "template": {
            "type": "object",
            "required": ["spec"],
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["containers"],
                    "x-kubernetes-preserve-unknown-fields": True,
                    "properties": {
                        "containers": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 16,
                            "items": _CONTAINER,
                            **list_map("name"),
                        }
                    },
                }
            },
        },
    },
}


class TrialTemplate(Model):
    """What each run of a trial is made from."""

    metadata: TemplateMetadata | None = Field(None, description="Of each Job.")
    spec: dict[str, Any] = Field(
        description="A batch/v1 JobSpec.", json_schema_extra={"x-primo-schema": JOB_SPEC_SCHEMA}
    )
