"""`python cli.py ...` is the console script `imbalance-bench` from a checkout."""

from imbalance_bench.commands.main import main

if __name__ == "__main__":
    main()
