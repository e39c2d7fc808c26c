"""What ``pexec bench`` and ``pexec profile`` run: strategies, peers, rounds of measuring, and the tables."""
