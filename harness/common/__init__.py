"""What every room of the harness uses: cache folders and progress."""
