"""The Grafana dashboards of the chart, as code: `python -m dashboards` writes their files."""
