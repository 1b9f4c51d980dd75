"""What pyproject.toml cannot say: which packages there are, and under which names two folders are installed."""

from setuptools import find_packages, setup

ANALYSES, TABLES = "imbalance_bench_analyses", "imbalance_bench_analyses.paper_tables"

setup(
    packages=[
        *find_packages(include=["imbalance_bench*"]),
        *(name.replace("analyses", ANALYSES, 1) for name in find_packages(include=["analyses*"])),
        TABLES,
    ],
    package_dir={ANALYSES: "analyses", TABLES: "results/published"},
)
