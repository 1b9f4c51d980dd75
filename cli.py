"""`python cli.py ...` is the console script `imbalance-bench` from a checkout."""

from analyses.commands.main import main

if __name__ == "__main__":
    main()
